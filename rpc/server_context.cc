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

bool ServerContext::cancelled() const { return cancelled_.load(std::memory_order_acquire) || expired(); }

void ServerContext::Begin(const std::string& peer, const transport::Clock& clock, transport::Instant now,
                          absl::Duration timeout) {
  peer_ = &peer;
  clock_ = &clock;
  timeout_ = timeout;
  deadline_ = now + timeout;
  cancelled_.store(false, std::memory_order_relaxed);
  if (!request_metadata_.empty()) request_metadata_.Clear();
  if (!initial_metadata_.empty()) initial_metadata_.Clear();
  if (!trailing_metadata_.empty()) trailing_metadata_.Clear();
}

}  // namespace ferry
