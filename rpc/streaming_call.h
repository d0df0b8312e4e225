// A handler's hold on one call that streams.
#ifndef FERRY_RPC_STREAMING_CALL_H_
#define FERRY_RPC_STREAMING_CALL_H_

#include <utility>

#include "absl/status/status.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/stream_io.h"

namespace ferry {

// The three kinds of calls that stream, as handlers hold them: each finishes its call once, now or later, on
// any thread.
//
//   void StartWatch(ferry::ServerStreamingCall<WatchRequest, Event> call) override {
//     subscribers_.Add(call.request().topic(), std::move(call));   // writes with call.replies(), then Finish
//   }
//
// Movable, not copyable. One thread at a time, but reading and writing may be done by one each. A handle that
// is destroyed without Finish ends its call with INTERNAL. All that belongs to the call is valid until
// Finish; a callback that has not run then is run: a reader's with false, a writer's with whether its message
// was taken.

// A ClientStreamingCall has a stream of requests and one reply.
template <typename Request, typename Reply>
class ClientStreamingCall : public CallHandle<Request, Reply> {
 public:
  static constexpr ServerCall::Kind kKind = {.client_streaming = true};
  using CallHandle<Request, Reply>::CallHandle;

  StreamReader<Request> requests() const { return StreamReader<Request>(this->call().messages); }
  Reply& reply() const { return this->call().reply(); }
};

// A ServerStreamingCall has one request and a stream of replies.
template <typename Request, typename Reply>
class ServerStreamingCall : public CallHandle<Request, Reply> {
 public:
  static constexpr ServerCall::Kind kKind = {.server_streaming = true};
  using CallHandle<Request, Reply>::CallHandle;

  const Request& request() const { return this->call().request(); }
  StreamWriter<Reply> replies() const { return StreamWriter<Reply>(this->call().messages); }
};

// A BidiStreamingCall has a stream of requests and one of replies.
template <typename Request, typename Reply>
class BidiStreamingCall : public CallHandle<Request, Reply> {
 public:
  static constexpr ServerCall::Kind kKind = {.client_streaming = true, .server_streaming = true};
  using CallHandle<Request, Reply>::CallHandle;

  StreamReader<Request> requests() const { return StreamReader<Request>(this->call().messages); }
  StreamWriter<Reply> replies() const { return StreamWriter<Reply>(this->call().messages); }
};

}  // namespace ferry

#endif  // FERRY_RPC_STREAMING_CALL_H_
