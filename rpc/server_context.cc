#include "ferry/rpc/server_context.h"

#include <algorithm>
#include <utility>

namespace ferry {

absl::Duration ServerContext::time_left() const {
  if (deadline_ == transport::Instant::Infinite()) return absl::InfiniteDuration();
  return std::max(deadline_ - loop().clock().Now(), absl::ZeroDuration());
}

absl::Time ServerContext::deadline() const {
  const absl::Duration left = time_left();
  return left == absl::InfiniteDuration() ? absl::InfiniteFuture() : absl::Now() + left;
}

void ServerContext::OnCancel(absl::AnyInvocable<void()> task) {
  // Before the task can run, for that may end the call.
  has_on_cancel_.store(true, std::memory_order_relaxed);
  WatchDeadline();
  absl::AnyInvocable<void()> replaced;
  {
    transport::MutexLock lock(cancel_mutex_);
    if (!cancelled()) {
      replaced = std::exchange(on_cancel_, std::move(task));
      return;
    }
    // Its deadline has passed, and nobody has told it.
    replaced = std::exchange(on_cancel_, nullptr);
  }
  task();
}

std::stop_token ServerContext::stop_token() {
  std::stop_token token;
  {
    transport::MutexLock lock(cancel_mutex_);
    if (stop_source_.has_value()) return stop_source_->get_token();
    stop_source_.emplace();
    has_on_cancel_.store(true, std::memory_order_relaxed);
    // Nobody can have a callback there yet.
    if (cancelled_.load(std::memory_order_acquire)) stop_source_->request_stop();
    token = stop_source_->get_token();
  }
  WatchDeadline();
  return token;
}

void ServerContext::Cancel() {
  absl::AnyInvocable<void()> task;
  std::optional<std::stop_source> stop_source;
  {
    transport::MutexLock lock(cancel_mutex_);
    cancelled_.store(true, std::memory_order_release);
    task = std::exchange(on_cancel_, nullptr);
    stop_source = stop_source_;
  }
  // The call may end inside of either.
  if (task != nullptr) task();
  if (stop_source.has_value()) stop_source->request_stop();
}

void ServerContext::DropOnCancel() {
  absl::AnyInvocable<void()> dropped;
  std::optional<std::stop_source> stop_source;
  {
    transport::MutexLock lock(cancel_mutex_);
    dropped = std::exchange(on_cancel_, nullptr);
    stop_source = std::exchange(stop_source_, std::nullopt);
    has_on_cancel_.store(false, std::memory_order_relaxed);
  }
  // What was started for the call and goes on is for nobody any more.
  if (stop_source.has_value()) stop_source->request_stop();
}

}  // namespace ferry
