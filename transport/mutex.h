// Mutual exclusion on the way of a call.
#ifndef FERRY_TRANSPORT_MUTEX_H_
#define FERRY_TRANSPORT_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"

namespace ferry::transport {

// A Mutex is a lock of four bytes that costs two atomic instructions while nobody else wants it.
//
// It is for what is locked once or more for each call. absl::Mutex is for the rest, above all where threads
// wait for conditions: as Debian builds it, each of its locks is entered in a graph that looks for deadlocks,
// under one lock of the whole process.
class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    uint32_t expected = kFree;
    if (ABSL_PREDICT_TRUE(state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                                         std::memory_order_relaxed))) {
      return;
    }
    // Whoever has waited leaves kWaitedFor, for there may be others who wait.
    while (state_.exchange(kWaitedFor, std::memory_order_acquire) != kFree) {
      state_.wait(kWaitedFor, std::memory_order_relaxed);
    }
  }

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    if (ABSL_PREDICT_FALSE(state_.exchange(kFree, std::memory_order_release) == kWaitedFor)) {
      state_.notify_one();
    }
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kWaitedFor = 2;

  // Unlock's release pairs with Lock's acquire.
  std::atomic<uint32_t> state_{kFree};
};

// A MutexLock holds a mutex while it lives. Code that lets go of the mutex for a while inside takes it again
// before the end.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A SharedLock holds a mutex while it lives if what the mutex guards is shared with other threads just now,
// and nothing if it is not; who says which must see to it that that does not change meanwhile.
class ABSL_SCOPED_LOCKABLE SharedLock {
 public:
  SharedLock(Mutex& mutex, bool shared) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS
      : mutex_(shared ? &mutex : nullptr) {
    if (mutex_ != nullptr) mutex_->Lock();
  }
  ~SharedLock() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (mutex_ != nullptr) mutex_->Unlock();
  }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;

 private:
  Mutex* const mutex_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_MUTEX_H_
