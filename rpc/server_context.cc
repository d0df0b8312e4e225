#include "ferry/rpc/server_context.h"

#include <algorithm>
#include <utility>

namespace ferry {

absl::Duration ServerContext::time_left() const {
  if (deadline_ == transport::Instant::Infinite()) return absl::InfiniteDuration();
  return std::max(deadline_ - clock_->Now(), absl::ZeroDuration());
}

absl::Time ServerContext::deadline() const {
  const absl::Duration left = time_left();
  return left == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + left;
}

void ServerContext::OnCancel(absl::AnyInvocable<void()> task) {
  absl::AnyInvocable<void()> replaced;
  {
    transport::MutexLock lock(cancel_mutex_);
    if (!cancelled_.load(std::memory_order_acquire)) {
      replaced = std::exchange(on_cancel_, std::move(task));
      has_on_cancel_.store(true, std::memory_order_relaxed);
      return;
    }
  }
  task();
}

void ServerContext::Cancel() {
  absl::AnyInvocable<void()> task;
  {
    transport::MutexLock lock(cancel_mutex_);
    cancelled_.store(true, std::memory_order_release);
    task = std::exchange(on_cancel_, nullptr);
  }
  if (task != nullptr) task();
}

void ServerContext::DropOnCancel() {
  absl::AnyInvocable<void()> dropped;
  transport::MutexLock lock(cancel_mutex_);
  dropped = std::exchange(on_cancel_, nullptr);
  has_on_cancel_.store(false, std::memory_order_relaxed);
}

}  // namespace ferry
