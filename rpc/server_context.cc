#include "ferry/rpc/server_context.h"

#include <algorithm>

namespace ferry {

absl::Duration ServerContext::time_left() const {
  if (deadline_ == transport::Instant::Infinite()) return absl::InfiniteDuration();
  return std::max(deadline_ - clock_->Now(), absl::ZeroDuration());
}

absl::Time ServerContext::deadline() const {
  const absl::Duration left = time_left();
  return left == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + left;
}

}  // namespace ferry
