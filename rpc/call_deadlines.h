// The deadlines of a client's calls.
#ifndef FERRY_RPC_CALL_DEADLINES_H_
#define FERRY_RPC_CALL_DEADLINES_H_

#include "ferry/rpc/client_call.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A CallDeadlines holds the deadlines of calls that any thread may start, for a loop that must wake for them.
// The loop is woken only when a call is to end before everything it has been told of: calls of equal timeouts
// wake it once.
//
// Thread-compatible: its owner's mutex guards it. It must outlive the calls in it.
class CallDeadlines {
 public:
  // Adds `call`, unless it has no deadline. Returns true if the loop must be told to come at wake_at().
  bool Add(ClientCall& call) {
    if (call.deadline == transport::Instant::Infinite()) return false;
    queue_.Arm(call.deadline_timer, call.deadline);
    if (call.deadline >= wake_at_) return false;
    wake_at_ = call.deadline;
    return true;
  }

  // Does nothing if `call` is not in it.
  void Remove(ClientCall& call) {
    if (call.deadline != transport::Instant::Infinite()) queue_.Cancel(call.deadline_timer);
  }

  // Takes out a call whose deadline is `now` or earlier; nullptr if there is none, and then wake_at() is when
  // the loop is to come next.
  ClientCall* TakeDue(transport::Instant now) {
    transport::Timer* due = queue_.PopDue(now);
    if (due != nullptr) return CallOf(*due);
    wake_at_ = queue_.next_due();
    return nullptr;
  }

  transport::Instant wake_at() const { return wake_at_; }

 private:
  static ClientCall* CallOf(transport::Timer& timer) {
    return static_cast<ClientCall::DeadlineTimer&>(timer).call;
  }

  transport::TimerQueue queue_;
  // When the loop will come, or has been asked to.
  transport::Instant wake_at_ = transport::Instant::Infinite();
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_DEADLINES_H_
