// How a call is cancelled from outside.
#ifndef FERRY_RPC_CALL_CANCELLATION_H_
#define FERRY_RPC_CALL_CANCELLATION_H_

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

class ClientCall;

// A CallCancellation ends one call with CANCELLED when it is asked to, or when a stop is requested of one of
// its tokens.
//
// Request is Thread-safe. Owned by its call until that ends, by whoever starts it, and by tasks on the loop.
class CallCancellation : public std::enable_shared_from_this<CallCancellation> {
 public:
  // A Canceller keeps calls until they have ended.
  class Canceller {
   public:
    virtual ~Canceller() = default;
    // Ends `call` with `why`, wherever it is kept. On the loop.
    virtual void CancelCall(ClientCall& call, absl::Status why) = 0;
  };

  // `loop` and `canceller` are those that will end `call`, which has not been started; they outlive it.
  CallCancellation(ClientCall& call, transport::EventLoop& loop, Canceller& canceller)
      : loop_(loop), canceller_(canceller), call_(&call) {}

  // Watches the caller's token, and that of the work that the call is made for. Once, before the start.
  void Watch(std::stop_token own, std::stop_token scope);

  // The call has been given to the canceller; it may have ended since. REQUIRES: the loop is there.
  void Started();

  // Cancels the call, unless it has ended. REQUIRES: it has been started, and the loop is there.
  void Request();

  // The call has ended: waits for a token's callback that is just running. On the loop, once.
  void End();

 private:
  struct OnStop {
    CallCancellation* cancellation;
    bool inherited;
    void operator()() const {
      if (inherited) cancellation->inherited_.store(true, std::memory_order_relaxed);
      cancellation->Request();
    }
  };

  void Cancel();

  transport::EventLoop& loop_;
  Canceller& canceller_;
  std::optional<std::stop_callback<OnStop>> own_;
  std::optional<std::stop_callback<OnStop>> scope_;
  std::atomic<bool> inherited_{false};
  // Either the loop, which stores requested_ and then loads started_, sees the start, or Started, which does
  // it the other way round, sees the request: all four are sequentially consistent.
  std::atomic<bool> started_{false};
  std::atomic<bool> requested_{false};
  // Belongs to the loop. Null once the call has ended.
  ClientCall* call_;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_CANCELLATION_H_
