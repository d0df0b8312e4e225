#include "ferry/rpc/keepalive.h"

#include <algorithm>
#include <utility>

#include "ferry/rpc/message_frames.h"

namespace ferry {

using transport::Connection;

namespace {

// Within options.time.
constexpr int kLooks = 2;

}  // namespace

Keepalive::Keepalive(const Options& options, transport::EventLoop& loop, Connection& connection,
                     std::function<bool()> has_calls, std::function<void()> gone)
    : options_(options),
      loop_(loop),
      connection_(connection),
      has_calls_(std::move(has_calls)),
      gone_(std::move(gone)),
      timer_([this] { Look(); }) {}

void Keepalive::Begin() {
  if (options_.time == absl::InfiniteDuration()) return;
  bytes_seen_ = BytesRead();
  LookLater();
}

uint64_t Keepalive::BytesRead() const {
  return connection_.counters().bytes_read.load(std::memory_order_relaxed);
}

void Keepalive::LookLater() {
  loop_.timers().Arm(timer_, loop_.now() + std::max(options_.time, absl::Milliseconds(1)) / kLooks);
}

void Keepalive::End() { loop_.timers().Cancel(timer_); }

void Keepalive::Look() {
  const uint64_t bytes = BytesRead();
  if (std::exchange(bytes_seen_, bytes) != bytes) {
    unanswered_ = 0;
  } else if (unanswered_ > 0) {
    if (++unanswered_ > kLooks) return gone_();
  } else if (options_.when_idle || has_calls_()) {
    unanswered_ = 1;
    SendPing(connection_);
  }
  LookLater();
}

}  // namespace ferry
