// How threads that wait for blocking calls run their channel's loop.
#ifndef FERRY_RPC_WAITING_CALLERS_H_
#define FERRY_RPC_WAITING_CALLERS_H_

#include <atomic>
#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_call.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// The threads that wait for blocking calls of one channel. While they are few and nobody else calls, they run
// the channel's loop among themselves: one leads, as a transport::EventLoop::Guest, and ends the calls of
// all; the others follow, which is to poll for the end of their calls and for the loop, and who finds that
// free leads on.
//
//                     some calls in a row, of few callers and nobody else
//     the own thread ----------------------------------------------------> a leader <--.
//                    <---------------------------------------------------           ---' a follower takes
//                     a callback is due; or the leader's call has ended,                 over, or the next
//                     others have not, and those who wait for them sleep                 caller
//
// Each time that its own thread takes the loop back, it takes more such calls until it lends it again.
//
// Thread-safe.
class WaitingCallers {
 public:
  // Runs `start`, which is to start `call` on `target`, and waits for the call's end: polls for `poll_time`
  // at most before it blocks. `target` must live until this returns, and the callers as long. REQUIRES: not
  // on a loop's thread.
  void Run(CallTarget& target, WaitedCall& call, absl::Duration poll_time, absl::FunctionRef<void()> start);

 private:
  class Presence;

  void Lead(transport::EventLoop::Guest& guest, CallTarget& target, WaitedCall& call,
            absl::Duration poll_time);
  void Follow(CallTarget& target, WaitedCall& call, absl::Duration poll_time,
              absl::FunctionRef<void()> start);
  bool IsOneOfManyLoneCalls(CallTarget& target);
  void PutOffLoan(bool for_callers_only);

  // How many calls in a row callers had the channel for themselves, and how many it takes until the loop is
  // asked to lend itself. Hints.
  std::atomic<int> lone_calls_{0};
  std::atomic<int> lone_calls_wanted_{kFewLoneCalls};
  // How many threads wait for calls, but for those that have led from the start.
  std::atomic<size_t> waiting_{0};
  // How many of them poll for the loop. A leader frees the loop before it looks here, and a follower is
  // counted out before it looks whether the loop is free: so one of the two sees to calls that have neither.
  std::atomic<size_t> followers_{0};

  // More would only keep the processors from those who work.
  static constexpr size_t kMaxWaiting = 4;
  static constexpr int kFewLoneCalls = 4;
  static constexpr int kSomeLoneCalls = 64;
  static constexpr int kManyLoneCalls = 4096;
};

}  // namespace ferry

#endif  // FERRY_RPC_WAITING_CALLERS_H_
