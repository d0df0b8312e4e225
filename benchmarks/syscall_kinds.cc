#include "ferry/benchmarks/syscall_kinds.h"

#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>

#include "ferry/benchmarks/event_counter.h"

namespace ferry::bench {
namespace {

// A bit for each low descriptor: whether it is an eventfd. Relaxed: whoever may use a descriptor was told of
// it in some way that orders more than this.
constexpr int kKnownFds = 4096;
constinit std::atomic<uint64_t> event_fds[kKnownFds / 64];

bool IsEventFd(int fd) {
  if (fd < 0 || fd >= kKnownFds) return false;
  return (event_fds[fd / 64].load(std::memory_order_relaxed) >> (fd % 64) & 1) != 0;
}

}  // namespace

void SetEventFd(int fd, bool is_event_fd) {
  if (fd < 0 || fd >= kKnownFds || IsEventFd(fd) == is_event_fd) return;
  event_fds[fd / 64].fetch_xor(uint64_t{1} << (fd % 64), std::memory_order_relaxed);
}

void CountRead(int fd, long result) {
  if (IsEventFd(fd)) return EventCounter::Count(EventCounter::kWakeUps);
  if (result < 0 && errno == EAGAIN) return CountPoll();
  EventCounter::Count(EventCounter::kReads);
}

void CountWrite(int fd, long result) {
  if (IsEventFd(fd)) return EventCounter::Count(EventCounter::kWakeUps);
  EventCounter::Count(EventCounter::kWrites);
  if (result > 0) EventCounter::Count(EventCounter::kBytesWritten, result);
}

void CountWait(bool may_sleep, long result) {
  if (result == 0 && !may_sleep) return CountPoll();
  EventCounter::Count(EventCounter::kWaits);
}

void CountWait(const void* timeout, long result) {
  const auto* const time = static_cast<const timespec*>(timeout);
  CountWait(time == nullptr || time->tv_sec != 0 || time->tv_nsec != 0, result);
}

void CountPoll() { EventCounter::Count(EventCounter::kEmptyPolls); }

void CountSyscall(long number, const long arguments[6], long result) {
  constexpr int kTimeout = 3;
  switch (number) {
    case SYS_futex:
      return EventCounter::Count(EventCounter::kWakeUps);
    case SYS_epoll_pwait:
      return CountWait(arguments[kTimeout] != 0, result);
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2:
      return CountWait(std::bit_cast<const void*>(arguments[kTimeout]), result);
#endif
    default:
      return CountOther();
  }
}

void CountOther() { EventCounter::Count(EventCounter::kOtherSyscalls); }

}  // namespace ferry::bench
