#include "ferry/rpc/balancing/attempt_limiter.h"

#include <algorithm>

namespace ferry {

absl::Duration AttemptLimiter::Reserve(transport::Instant now) {
  int64_t before = full_at_.load(std::memory_order_relaxed);
  int64_t from;
  do {
    from = std::max(before, now.nanos);
  } while (!full_at_.compare_exchange_weak(before, from + nanos_each_, std::memory_order_relaxed));
  return absl::Nanoseconds(std::max<int64_t>(from - now.nanos - tolerance_, 0));
}

}  // namespace ferry
