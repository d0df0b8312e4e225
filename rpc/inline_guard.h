// What keeps a slow handler off the event loops.
#ifndef FERRY_RPC_INLINE_GUARD_H_
#define FERRY_RPC_INLINE_GUARD_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "ferry/transport/clock.h"

namespace ferry {

// An InlineGuard decides whether a method that is marked inline may run on the loops just now. A method that
// overstays its budget again and again is moved to the executor for a while, and then tried inline again.
//
// Thread-safe: the loops share one for each method. Its fields are counts and times that order nothing else.
class InlineGuard {
 public:
  struct Options {
    // The running time that an inline handler may take.
    absl::Duration budget = absl::Microseconds(50);
    // The method moves when this many more calls have overstayed the budget than have kept it.
    int tolerance = 4;
    // How long it stays away.
    absl::Duration time_away = absl::Seconds(10);
  };

  explicit InlineGuard(const Options& options) : options_(options) {}

  bool MayRunInline(transport::Instant now) const {
    return now.nanos >= away_until_.load(std::memory_order_relaxed);
  }

  // Counts a call that ran inline from `start` to `end`. Returns true if the method has just been moved away.
  bool Report(transport::Instant start, transport::Instant end);

  // How often the method has been moved away.
  uint64_t times_moved() const { return times_moved_.load(std::memory_order_relaxed); }

  const Options& options() const { return options_; }

 private:
  const Options options_;
  std::atomic<int64_t> away_until_{0};
  std::atomic<int> overstays_{0};
  std::atomic<uint64_t> times_moved_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_INLINE_GUARD_H_
