#include "ferry/rpc/waiting_callers.h"

#include <algorithm>
#include <optional>

namespace ferry {

using transport::EventLoop;

// A Presence is what a thread is counted by.
class WaitingCallers::Presence {
 public:
  explicit Presence(std::atomic<size_t>& count) : count_(count) { count_.fetch_add(1); }
  ~Presence() { count_.fetch_sub(1); }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

 private:
  std::atomic<size_t>& count_;
};

void WaitingCallers::Run(CallTarget& target, WaitedCall& call, absl::Duration poll_time,
                         absl::FunctionRef<void()> start) {
  if (EventLoop::Guest guest(target.loop()); guest.entered()) {
    start();
    return Lead(guest, target, call, poll_time);
  }
  const Presence waits(waiting_);
  if (poll_time > absl::ZeroDuration() && target.loop().is_lent() && waiting_.load() < kMaxWaiting) {
    return Follow(target, call, poll_time, start);
  }
  if (IsOneOfManyLoneCalls(target)) call.LendWhenEnded(target.loop());
  start();
  call.Wait(poll_time);
}

// Runs the loop until `call` has ended or something is for the loop's own thread.
void WaitingCallers::Lead(EventLoop::Guest& guest, CallTarget& target, WaitedCall& call,
                          absl::Duration poll_time) {
  const bool ended = guest.RunUntil([&call] { return call.ended(); });
  bool wanted = !ended || (followers_.load() == 0 && target.has_calls());
  if (!wanted) {
    // A call that another thread started just then may have found the loop run by us.
    guest.Leave([&] { return wanted = followers_.load() == 0 && target.has_shared_calls(); });
    if (!wanted) return;
  }
  PutOffLoan(ended && target.calls() <= waiting_.load());
  if (guest.entered()) guest.HandBack();
  if (!ended) call.Wait(poll_time);
}

// Starts `call` while another thread runs the loop, and waits for its end or for the loop.
void WaitingCallers::Follow(CallTarget& target, WaitedCall& call, absl::Duration poll_time,
                            absl::FunctionRef<void()> start) {
  EventLoop& loop = target.loop();
  // The channel may be destroyed as soon as the call has ended.
  const EventLoop::Visit visit(&loop);
  std::optional<EventLoop::Guest> guest;
  {
    const Presence follows(followers_);
    call.caller_runs_loop = true;
    start();
    call.Poll(poll_time, [&] {
      if (!loop.is_free()) return false;
      guest.emplace(loop);
      if (guest->entered()) return true;
      guest.reset();
      return false;
    });
  }
  if (guest.has_value()) return Lead(*guest, target, call, poll_time);
  // A leader that has left since may have left the loop to us.
  if (!call.ended() || (loop.is_free() && followers_.load() == 0 && target.has_shared_calls())) {
    loop.EnsureRun();
  }
  call.Block();
}

// Whether callers have had the channel for themselves for so long that it is worth lending them the loop. On
// a thread that is counted in waiting_.
bool WaitingCallers::IsOneOfManyLoneCalls(CallTarget& target) {
  const size_t waiting = waiting_.load();
  if (waiting > kMaxWaiting || target.calls() >= waiting) {
    lone_calls_.store(0, std::memory_order_relaxed);
    return false;
  }
  const int calls = lone_calls_.load(std::memory_order_relaxed) + 1;
  lone_calls_.store(calls, std::memory_order_relaxed);
  const int wanted = lone_calls_wanted_.load(std::memory_order_relaxed);
  if (calls < wanted) return false;
  // Each loan is a chance to be trusted sooner next time.
  lone_calls_.store(0, std::memory_order_relaxed);
  lone_calls_wanted_.store(std::max(wanted / 2, kFewLoneCalls), std::memory_order_relaxed);
  return true;
}

// The loop is its own thread's again, and will be needed again for the same reason: the next loan is to come
// later. Not much if only a caller has blocked that could have followed.
void WaitingCallers::PutOffLoan(bool for_callers_only) {
  const int wanted = lone_calls_wanted_.load(std::memory_order_relaxed);
  const int next = for_callers_only ? std::max(wanted, std::min(2 * wanted, kSomeLoneCalls))
                                    : std::min(8 * wanted, kManyLoneCalls);
  lone_calls_wanted_.store(next, std::memory_order_relaxed);
}

}  // namespace ferry
