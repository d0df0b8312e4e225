// A unary call that a coroutine waits for.
#ifndef FERRY_RPC_AWAITED_CALL_H_
#define FERRY_RPC_AWAITED_CALL_H_

#include <coroutine>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/resumption.h"
#include "ferry/rpc/task.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// An AwaitedCall is a ClientCall whose end a coroutine awaits. It owns itself from its start until Complete;
// the coroutine owns it too.
template <typename Reply>
class AwaitedCall final : public ClientCall {
 public:
  // `loop` is the one that the call will end on.
  explicit AwaitedCall(transport::EventLoop& loop) : loop_(loop) {}

  // Before it is started.
  void KeepUntilComplete(std::shared_ptr<AwaitedCall> self) { self_ = std::move(self); }

  bool ParseReply(absl::string_view bytes) override {
    return reply_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }

  void Complete(absl::Status status) override {
    status_ = std::move(status);
    // A thread that only waits for a call of its own must not run an application's coroutine.
    if (loop_.run_by_guest()) return loop_.PostToOwner([self = std::move(self_)] { self->end_.Resume(); });
    const std::shared_ptr<AwaitedCall> self = std::move(self_);
    end_.Resume();
  }

  bool ended() const { return end_.resumed(); }

  // `co_await` waits for the end, once.
  bool await_ready() const { return ended(); }
  bool await_suspend(std::coroutine_handle<> coroutine) { return end_.Suspend(coroutine); }
  absl::StatusOr<Reply> await_resume() {
    if (!status_.ok()) return std::move(status_);
    return std::move(reply_);
  }

 private:
  transport::EventLoop& loop_;
  // Null before the start and after the end.
  std::shared_ptr<AwaitedCall> self_;
  Reply reply_;
  absl::Status status_;
  Resumption end_;
};

// Cancels an AwaitedCall, unless it has ended, when nobody is left to wait for it.
template <typename Reply>
class AwaitedCallOwner {
 public:
  AwaitedCallOwner(std::shared_ptr<AwaitedCall<Reply>> call, CallCanceller canceller)
      : call_(std::move(call)), canceller_(std::move(canceller)) {}
  AwaitedCallOwner(AwaitedCallOwner&&) = default;
  AwaitedCallOwner& operator=(AwaitedCallOwner&&) = delete;
  ~AwaitedCallOwner() {
    if (call_ != nullptr && !call_->ended()) {
      canceller_.Cancel(call_,
                        absl::CancelledError("the coroutine that was to wait for the call was destroyed"));
    }
  }

  AwaitedCall<Reply>& call() const { return *call_; }

 private:
  std::shared_ptr<AwaitedCall<Reply>> call_;
  CallCanceller canceller_;
};

// The task that waits for a call which is under way.
template <typename Reply>
Task<absl::StatusOr<Reply>> Await(AwaitedCallOwner<Reply> owner) {
  co_return co_await owner.call();
}

}  // namespace ferry

#endif  // FERRY_RPC_AWAITED_CALL_H_
