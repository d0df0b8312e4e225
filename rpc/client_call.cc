#include "ferry/rpc/client_call.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/poll_policy.h"

namespace ferry {

void RequestCopy::Grow(size_t size) {
  capacity_ = std::max(2 * capacity_, std::max<size_t>(size, 64));
  bytes_ = std::make_unique<char[]>(capacity_);
}

// What the next use of the call must not find.
void ClientCall::LetGo() {
  request_block = transport::Block();
  if (cancellation == nullptr) return;
  cancellation->End();
  cancellation = nullptr;
}

absl::Status ReplyDoesNotParse(size_t size) {
  return absl::InternalError(absl::StrCat("response of ", size, " bytes does not parse"));
}

void WaitedCall::Complete(absl::Status status) {
  if (loop_to_lend_ != nullptr) loop_to_lend_->RequestLoan();
  status_ = std::move(status);
  // The caller, and this with it, may be gone as soon as it sees kEnded; what is left for notify_one is an
  // address.
  std::atomic<State>& state = state_;
  if (state.exchange(State::kEnded, std::memory_order_acq_rel) == State::kAwaited) state.notify_one();
}

void WaitedCall::Poll(absl::Duration poll_time, absl::FunctionRef<bool()> found) {
  // What this thread has learned about waiting, whatever for; for how long is each call's own matter.
  static thread_local transport::PollPolicy policy(transport::PollPolicy::kMaxLimit);
  const transport::Clock& clock = transport::Clock::Real();
  if (poll_time <= absl::ZeroDuration()) return;
  transport::Instant now = clock.Now();
  if (policy.Begin(now.nanos, 0) == 0) return;
  const transport::Instant until = now + poll_time;
  do {
    if (ended() || found()) return policy.Found();
    std::this_thread::yield();
    const transport::Instant before = std::exchange(now, clock.Now());
    if (!policy.GoesOn(before.nanos, now.nanos)) return;
  } while (now < until);
  policy.Missed();
}

void WaitedCall::Block() {
  State expected = State::kRunning;
  if (!state_.compare_exchange_strong(expected, State::kAwaited, std::memory_order_acq_rel)) return;
  while (!ended()) state_.wait(State::kAwaited, std::memory_order_acquire);
}

}  // namespace ferry
