// What generated stubs call: one method over a channel.
#ifndef FERRY_RPC_CLIENT_METHOD_H_
#define FERRY_RPC_CLIENT_METHOD_H_

#include <google/protobuf/message_lite.h>

#include <memory>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/rpc/awaited_call.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/task.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// A ClientMethod is one unary method as a client sees it. Generated stubs hold one for each method.
//
// A value: cheap to copy, and Thread-safe. The channel and the descriptor must outlive it. Requests are read
// before a call returns, whatever the form.
template <typename Request, typename Reply>
class ClientMethod {
 public:
  ClientMethod(Channel& channel, const MethodDescriptor& method)
      : channel_(&channel), method_(&method), calls_(channel.CallPool<Reply>()) {}

  // Calls and waits. `reply` is overwritten; it is unspecified unless OK is returned. FAILED_PRECONDITION on
  // an event loop's thread (in callbacks and inline handlers): all that the loop is for would stop, perhaps
  // for ever.
  absl::Status Call(const Request& request, Reply& reply, const CallOptions& options) const {
    if (ABSL_PREDICT_FALSE(channel_->forked())) return channel_->ForkedError();
    if (transport::EventLoop::InAnyLoop()) return WouldStopTheLoop();
    BlockingCall call(reply);
    channel_->Run(*method_, request, options, call);
    return call.TakeStatus();
  }
  absl::StatusOr<Reply> Call(const Request& request, const CallOptions& options) const {
    absl::StatusOr<Reply> reply(absl::in_place);
    absl::Status status = Call(request, *reply, options);
    if (!status.ok()) reply = std::move(status);
    return reply;
  }

  // Calls, and runs `done` once on a thread of the channel's loops, never before this returns into the loop.
  // `done` may start further calls but must not wait for one. `reply`, in the form that takes it, must live
  // until then.
  void Call(const Request& request, Reply& reply, const CallOptions& options, StatusCallback&& done) const {
    if (ABSL_PREDICT_FALSE(channel_->forked())) return std::move(done)(channel_->ForkedError());
    channel_->Start(*method_, request, options, calls_->Take(reply, std::move(done)));
  }
  void Call(const Request& request, const CallOptions& options, ReplyCallback<Reply>&& done) const {
    if (ABSL_PREDICT_FALSE(channel_->forked())) return std::move(done)(channel_->ForkedError());
    channel_->Start(*method_, request, options, calls_->Take(std::move(done)));
  }

  // Calls, and returns a task that waits for the reply: the call is under way before the task is started.
  // Destroying the task cancels it. The coroutine that waits runs on on a thread of the channel's loops.
  Task<absl::StatusOr<Reply>> CallTask(const Request& request, const CallOptions& options) const {
    auto call = std::make_shared<AwaitedCall<Reply>>(channel_->loop());
    call->KeepUntilComplete(call);
    AwaitedCallOwner<Reply> owner(call, channel_->canceller());
    if (ABSL_PREDICT_FALSE(channel_->forked())) {
      call->End(channel_->ForkedError());
    } else {
      channel_->Start(*method_, request, options, *call);
    }
    return Await(std::move(owner));
  }

 private:
  static absl::Status WouldStopTheLoop() {
    return absl::FailedPreconditionError(
        "a blocking call on an event loop's thread; use the callback form there");
  }

  Channel* channel_;
  const MethodDescriptor* method_;
  ClientCallPool<Reply>* calls_;
};

// A StreamingMethod is what the three kinds of methods with streams have in common: as ClientMethod. Starting
// such a call does not wait; it may be done on any thread.
class StreamingMethod {
 public:
  StreamingMethod(Channel& channel, const MethodDescriptor& method) : channel_(&channel), method_(&method) {}

 protected:
  // With `request`, or a stream of requests if that is null.
  std::shared_ptr<ClientStreamCall> Start(const google::protobuf::MessageLite* request,
                                          const CallOptions& options) const {
    return channel_->StartStream(*method_, request, options);
  }

 private:
  Channel* channel_;
  const MethodDescriptor* method_;
};

template <typename Request, typename Reply>
class ServerStreamingMethod : public StreamingMethod {
 public:
  using StreamingMethod::StreamingMethod;
  ServerStream<Reply> Call(const Request& request, const CallOptions& options) const {
    return ServerStream<Reply>(Start(&request, options));
  }
};

template <typename Request, typename Reply>
class ClientStreamingMethod : public StreamingMethod {
 public:
  using StreamingMethod::StreamingMethod;
  ClientStream<Request, Reply> Call(const CallOptions& options) const {
    return ClientStream<Request, Reply>(Start(nullptr, options));
  }
};

template <typename Request, typename Reply>
class BidiStreamingMethod : public StreamingMethod {
 public:
  using StreamingMethod::StreamingMethod;
  BidiStream<Request, Reply> Call(const CallOptions& options) const {
    return BidiStream<Request, Reply>(Start(nullptr, options));
  }
};

}  // namespace ferry

#endif  // FERRY_RPC_CLIENT_METHOD_H_
