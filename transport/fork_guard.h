// Telling a process from its forks.
#ifndef FERRY_TRANSPORT_FORK_GUARD_H_
#define FERRY_TRANSPORT_FORK_GUARD_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

namespace ferry::transport {

// A ForkGuard knows in which process it was made. What stands on threads, as event loops do, is of no use in
// a process that was forked from theirs: the threads are not there, and locks may be held for ever.
//
// A value. Thread-safe: constant.
class ForkGuard {
 public:
  ForkGuard();

  // Whether this process was forked, by fork(), from the one that the guard was made in, or by way of others.
  // A load and a comparison.
  bool forked() const { return generation_ != current_.load(std::memory_order_relaxed); }

  // FAILED_PRECONDITION: "the channel was created in process 123, this is process 124: create channels after
  // fork". `what` is "channel".
  absl::Status Error(std::string_view what) const;

 private:
  static void OnForked();

  // How many forks this process is away from the first that had a guard: counted in each child.
  static constinit inline std::atomic<uint32_t> current_{0};

  uint32_t generation_;
  pid_t process_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_FORK_GUARD_H_
