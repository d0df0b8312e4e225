// A cap on how often a process tries to connect.
#ifndef FERRY_RPC_BALANCING_ATTEMPT_LIMITER_H_
#define FERRY_RPC_BALANCING_ATTEMPT_LIMITER_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "ferry/transport/clock.h"

namespace ferry {

// An AttemptLimiter hands out the times at which connections may be attempted: `burst` at once, and
// `per_second` from then on, in the order in which they were asked for. A token bucket, kept as the time at
// which it is full again (the generic cell rate algorithm of ITU-T I.371).
//
// Thread-safe, without locks: one atomic, which orders nothing else. Trivially destructible, and constant to
// initialise, so that a process may have one as a global.
class AttemptLimiter {
 public:
  // By default 1,000 endpoints that have all lost their servers, or whose servers are all new, have tried
  // within a second; one attempt a millisecond is little to a server that has lost its clients.
  static constexpr uint32_t kPerSecond = 1000;
  static constexpr uint32_t kBurst = 20;

  // 0 of either counts as 1; of what is over 1,000,000,000 a second, as that.
  constexpr explicit AttemptLimiter(uint32_t per_second = kPerSecond, uint32_t burst = kBurst)
      : nanos_each_(1'000'000'000 / Clamp(per_second)),
        tolerance_(nanos_each_ * (static_cast<int64_t>(burst < 1 ? 1 : burst) - 1)) {}

  // Takes the next time that is free, and says how long after `now` it is: zero if the attempt may be made at
  // once. The caller then makes it; if it does not, the time is lost to others.
  absl::Duration Reserve(transport::Instant now);

 private:
  static constexpr int64_t Clamp(uint32_t per_second) {
    if (per_second < 1) return 1;
    return per_second > 1'000'000'000 ? 1'000'000'000 : per_second;
  }

  const int64_t nanos_each_;
  // How much earlier than full_at_ an attempt may be made.
  const int64_t tolerance_;
  // When the bucket is full again.
  std::atomic<int64_t> full_at_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_ATTEMPT_LIMITER_H_
