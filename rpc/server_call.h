// One call being served, and the handle through which a handler ends it.
#ifndef FERRY_RPC_SERVER_CALL_H_
#define FERRY_RPC_SERVER_CALL_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/message_assembly.h"
#include "ferry/rpc/server_context.h"
#include "ferry/transport/frame.h"

namespace ferry {

class CallRecycler;
class Stream;
struct ServedMethod;

// A ServerCall is one call on the server, from its request to its one end. Call objects are recycled, with
// their messages, by the session that runs them.
//
// Belongs to the session until the handler is started, then to the handler until End(), then to the session
// again.
class ServerCall : public Executor::Task {
 public:
  // Whether its method streams requests, replies.
  struct Kind {
    bool client_streaming = false;
    bool server_streaming = false;
  };

  explicit ServerCall(Kind kind) : streams_replies(kind.server_streaming) {}
  ServerCall() : ServerCall(Kind{}) {}

  // An Owner runs calls and is told when one has ended. A server session is one.
  class Owner {
   public:
    virtual ~Owner() = default;
    // Starts the handler of `call`, unless nobody waits for its answer any more, on an executor's thread.
    virtual void RunCall(ServerCall& call) = 0;
    // Sends the reply, or `status` if it is not OK, and takes the call back. Called once for each call, from
    // any thread.
    virtual void EndCall(ServerCall& call, absl::Status status) = 0;
  };

  ServerContext& context() { return context_; }
  virtual google::protobuf::MessageLite& request_message() = 0;
  // Reads the request out of `bytes`, whatever it held before.
  virtual bool ParseRequest(absl::string_view bytes) = 0;
  virtual google::protobuf::MessageLite& reply_message() = 0;

  // Forgets the messages and their memory; Clear() would keep the memory for the next call.
  virtual void DropMessages() = 0;

  // Ends the call: called exactly once, from any thread, by the handle.
  void End(absl::Status status) { owner->EndCall(*this, std::move(status)); }

  void Run() final { owner->RunCall(*this); }

  // The rest is the owner's, which lives until EndCall of its last call has returned.
  Owner* owner = nullptr;
  ServedMethod* method = nullptr;
  CallRecycler* recycler = nullptr;
  transport::StreamId stream;
  // Where the owner keeps the call while it is in flight; null otherwise.
  std::atomic<ServerCall*>* place = nullptr;
  uint8_t priority = 0;
  // The messages of a call that streams; null otherwise.
  std::shared_ptr<Stream> messages;
  // The answer is a stream of replies, and its end.
  const bool streams_replies;
  // The initial metadata have gone with the first of them.
  bool initial_metadata_sent = false;
  // A request that arrives in fragments, and is parsed when the call is run.
  MessageAssembly request_fragments;
  // What a request in one frame takes of the budget.
  size_t charged_bytes = 0;
  // The handler has not seen the call, and will not.
  bool not_executed = false;
  // In a list of free calls.
  ServerCall* next_free = nullptr;

 private:
  ServerContext context_;
};

template <typename Request, typename Reply>
class TypedServerCall;

// A CallHandle is a handler's hold on one call: it finishes the call once, now or later, on any thread. One
// of the kinds below, or of streaming_call.h.
//
// Movable, not copyable. Thread-compatible. A handle that is destroyed without Finish ends its call with
// INTERNAL; in a process that was forked since, nothing ends it. The call's messages and context are valid
// until Finish; a handler that moves its handle to another thread makes no calls afterwards that are not
// `detached` (call_scope.h).
template <typename RequestType, typename ReplyType>
class CallHandle {
 public:
  using Request = RequestType;
  using Reply = ReplyType;

  explicit CallHandle(TypedServerCall<Request, Reply>& call) : call_(&call) {}
  CallHandle(CallHandle&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
  CallHandle& operator=(CallHandle&& other) noexcept {
    std::swap(call_, other.call_);
    return *this;
  }
  ~CallHandle() {
    if (call_ != nullptr)
      call_->End(absl::InternalError("the handler dropped the call without finishing it"));
  }

  ServerContext& context() const { return call_->context(); }

  // Ends the call: with OK, and the reply if there is a single one; or with another status. Replies that were
  // written before and still wait for the client to read reach it first, unless the call is cancelled. The
  // handle is empty afterwards.
  void Finish(absl::Status status) && { std::exchange(call_, nullptr)->End(std::move(status)); }

 protected:
  TypedServerCall<Request, Reply>& call() const { return *call_; }

 private:
  TypedServerCall<Request, Reply>* call_;
};

// A UnaryCall is a handler's hold on a call with one request and one reply.
//
//   void StartGreet(ferry::UnaryCall<GreetRequest, GreetReply> call) override {
//     queue_.Add([call = std::move(call)]() mutable {
//       call.reply().set_text("hello, " + call.request().name());
//       std::move(call).Finish(absl::OkStatus());
//     });
//   }
template <typename Request, typename Reply>
class UnaryCall : public CallHandle<Request, Reply> {
 public:
  static constexpr ServerCall::Kind kKind = {};
  using CallHandle<Request, Reply>::CallHandle;

  const Request& request() const { return this->call().request(); }
  Reply& reply() const { return this->call().reply(); }
};

// A TypedServerCall is a ServerCall with messages of the method's types. What is streamed has no place in it.
template <typename Request, typename Reply>
class TypedServerCall final : public ServerCall {
 public:
  explicit TypedServerCall(Kind kind) : ServerCall(kind), has_request_(!kind.client_streaming) {
    DropMessages();
  }
  TypedServerCall() : TypedServerCall(Kind{}) {}

  const Request& request() const { return *request_; }
  Reply& reply() { return *reply_; }

  google::protobuf::MessageLite& request_message() override { return *request_; }
  bool ParseRequest(absl::string_view bytes) override {
    return !has_request_ || request_->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  google::protobuf::MessageLite& reply_message() override { return *reply_; }
  void DropMessages() override {
    request_.emplace();
    reply_.emplace();
  }

 private:
  const bool has_request_;
  std::optional<Request> request_;
  std::optional<Reply> reply_;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_CALL_H_
