// Tells ThreadSanitizer about the locks of a libabsl_synchronization.so that was built without it: the
// methods of absl::Mutex and absl::CondVar defined here stand before the library's own, say what they do, and
// call those.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FERRY_TSAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__) || defined(FERRY_TSAN)

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdio>
#include <cstdlib>

#include <type_traits>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

// libabsl_status.so drops references with atomics, libabsl_synchronization.so keeps its graph of locks under
// a spin lock, and libabsl_strerror.so makes its table once behind a guard, that ThreadSanitizer does not
// see.
extern "C" const char* __tsan_default_suppressions() {
  return "race:absl::debian3::Status::Unref\n"
         // The same where it is inlined, and its frame has no more than a name and a file.
         "race:absl/status/status.h\n"
         "race:absl::debian3::base_internal::StrError\n"
         "race:absl::debian3::synchronization_internal::GraphCycles\n";
}

namespace {

// Calls among the library's own methods come through here too; only the outermost one is announced.
thread_local int depth = 0;

struct Inside {
  Inside() { ++depth; }
  ~Inside() { --depth; }
};

__attribute__((no_sanitize("thread"))) void* Next(const char* symbol) {
  void* f = dlsym(RTLD_NEXT, symbol);
  if (f == nullptr) {
    std::fprintf(stderr, "absl_mutex.cc: no %s\n", symbol);
    std::abort();
  }
  return f;
}

constexpr unsigned kRead = __tsan_mutex_read_lock;
constexpr unsigned kTry = __tsan_mutex_try_lock;
constexpr unsigned kTryFailed = __tsan_mutex_try_lock_failed;

template <typename F>
auto Locking(void* mu, unsigned flags, F f) {
  const bool announce = depth == 0;
  if (announce) __tsan_mutex_pre_lock(mu, flags);
  Inside inside;
  if constexpr (std::is_void_v<decltype(f())>) {
    f();
    if (announce) __tsan_mutex_post_lock(mu, flags, 0);
  } else {
    auto result = f();
    if (announce) __tsan_mutex_post_lock(mu, (flags & kTry) && !result ? flags | kTryFailed : flags, 0);
    return result;
  }
}

template <typename F>
void Unlocking(void* mu, unsigned flags, F f) {
  const bool announce = depth == 0;
  if (announce) __tsan_mutex_pre_unlock(mu, flags);
  Inside inside;
  f();
  if (announce) __tsan_mutex_post_unlock(mu, flags);
}

// A wait releases the mutex and takes it again.
template <typename F>
auto Waiting(void* mu, F f) {
  const bool announce = depth == 0;
  if (announce) {
    __tsan_mutex_pre_unlock(mu, 0);
    __tsan_mutex_post_unlock(mu, 0);
    __tsan_mutex_pre_lock(mu, 0);
  }
  Inside inside;
  if constexpr (std::is_void_v<decltype(f())>) {
    f();
    if (announce) __tsan_mutex_post_lock(mu, 0, 0);
  } else {
    auto result = f();
    if (announce) __tsan_mutex_post_lock(mu, 0, 0);
    return result;
  }
}

}  // namespace

#define FERRY_ABSL_NS "7debian3"
#define REAL(type, mangled) \
  static const auto real = reinterpret_cast<type>(Next("_ZN4absl" FERRY_ABSL_NS mangled))
#define REAL_CONST(type, mangled) \
  static const auto real = reinterpret_cast<type>(Next("_ZNK4absl" FERRY_ABSL_NS mangled))

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  REAL(void (*)(Mutex*), "5Mutex4LockEv");
  Locking(this, 0, [&] { real(this); });
}
bool Mutex::TryLock() {
  REAL(bool (*)(Mutex*), "5Mutex7TryLockEv");
  return Locking(this, kTry, [&] { return real(this); });
}
void Mutex::Unlock() {
  REAL(void (*)(Mutex*), "5Mutex6UnlockEv");
  Unlocking(this, 0, [&] { real(this); });
}
void Mutex::ReaderLock() {
  REAL(void (*)(Mutex*), "5Mutex10ReaderLockEv");
  Locking(this, kRead, [&] { real(this); });
}
bool Mutex::ReaderTryLock() {
  REAL(bool (*)(Mutex*), "5Mutex13ReaderTryLockEv");
  return Locking(this, kRead | kTry, [&] { return real(this); });
}
void Mutex::ReaderUnlock() {
  REAL(void (*)(Mutex*), "5Mutex12ReaderUnlockEv");
  Unlocking(this, kRead, [&] { real(this); });
}
void Mutex::LockWhen(const Condition& cond) {
  REAL(void (*)(Mutex*, const Condition&), "5Mutex8LockWhenERKNS0_9ConditionE");
  Locking(this, 0, [&] { real(this, cond); });
}
bool Mutex::LockWhenWithTimeout(const Condition& cond, Duration timeout) {
  REAL(bool (*)(Mutex*, const Condition&, Duration),
       "5Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Locking(this, 0, [&] { return real(this, cond, timeout); });
}
bool Mutex::LockWhenWithDeadline(const Condition& cond, Time deadline) {
  REAL(bool (*)(Mutex*, const Condition&, Time), "5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return Locking(this, 0, [&] { return real(this, cond, deadline); });
}
void Mutex::Await(const Condition& cond) {
  REAL(void (*)(Mutex*, const Condition&), "5Mutex5AwaitERKNS0_9ConditionE");
  Waiting(this, [&] { real(this, cond); });
}
bool Mutex::AwaitWithTimeout(const Condition& cond, Duration timeout) {
  REAL(bool (*)(Mutex*, const Condition&, Duration),
       "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Waiting(this, [&] { return real(this, cond, timeout); });
}
bool Mutex::AwaitWithDeadline(const Condition& cond, Time deadline) {
  REAL(bool (*)(Mutex*, const Condition&, Time), "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  return Waiting(this, [&] { return real(this, cond, deadline); });
}
void CondVar::Wait(Mutex* mu) {
  REAL(void (*)(CondVar*, Mutex*), "7CondVar4WaitEPNS0_5MutexE");
  Waiting(mu, [&] { real(this, mu); });
}
bool CondVar::WaitWithTimeout(Mutex* mu, Duration timeout) {
  REAL(bool (*)(CondVar*, Mutex*, Duration), "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  return Waiting(mu, [&] { return real(this, mu, timeout); });
}
bool CondVar::WaitWithDeadline(Mutex* mu, Time deadline) {
  REAL(bool (*)(CondVar*, Mutex*, Time), "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  return Waiting(mu, [&] { return real(this, mu, deadline); });
}

// HasBeenNotified() is inline: its acquire load pairs with a release at the flag, which follows the mutex.
static char* Flag(const Notification* n) {
  return const_cast<char*>(reinterpret_cast<const char*>(n)) + sizeof(Mutex);
}
void Notification::Notify() {
  REAL(void (*)(Notification*), "12Notification6NotifyEv");
  __tsan_release(Flag(this));
  real(this);
}
void Notification::WaitForNotification() const {
  REAL_CONST(void (*)(const Notification*), "12Notification19WaitForNotificationEv");
  real(this);
  __tsan_acquire(Flag(this));
}
bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  REAL_CONST(bool (*)(const Notification*, Duration),
             "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = real(this, timeout);
  if (notified) __tsan_acquire(Flag(this));
  return notified;
}
bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  REAL_CONST(bool (*)(const Notification*, Time),
             "12Notification31WaitForNotificationWithDeadlineENS0_4TimeE");
  const bool notified = real(this, deadline);
  if (notified) __tsan_acquire(Flag(this));
  return notified;
}
bool BlockingCounter::DecrementCount() {
  REAL(bool (*)(BlockingCounter*), "15BlockingCounter14DecrementCountEv");
  __tsan_release(this);
  return real(this);
}
void BlockingCounter::Wait() {
  REAL(void (*)(BlockingCounter*), "15BlockingCounter4WaitEv");
  real(this);
  __tsan_acquire(this);
}

ABSL_NAMESPACE_END
}  // namespace absl

#endif
