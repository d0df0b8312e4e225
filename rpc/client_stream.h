// A call that streams, as its client holds it.
#ifndef FERRY_RPC_CLIENT_STREAM_H_
#define FERRY_RPC_CLIENT_STREAM_H_

#include <google/protobuf/message_lite.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/resumption.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ClientStreamCall is a ClientCall with a stream of requests, of replies, or of both.
//
// As Stream. It owns itself from its start until Complete; a handle owns it too.
class ClientStreamCall final : public ClientCall, public Stream {
 public:
  // `keep_alive` is what the loop lives in, if nobody else is sure to keep it.
  ClientStreamCall(transport::EventLoop& loop, std::shared_ptr<void> keep_alive, uint32_t window,
                   uint64_t max_message);

  // Before it is started.
  void KeepUntilComplete() { self_ = std::static_pointer_cast<ClientStreamCall>(shared_from_this()); }

  bool ParseReply(absl::string_view bytes) override;
  void Complete(absl::Status status) override ABSL_LOCKS_EXCLUDED(end_mutex_);

  // Waits for the end.
  absl::Status WaitForEnd() ABSL_LOCKS_EXCLUDED(end_mutex_);
  // Runs `waiter` at the end. False, and it is left alone, if that has come.
  bool WhenEnded(Waiter& waiter) ABSL_LOCKS_EXCLUDED(end_mutex_);
  // How it ended. REQUIRES: it has.
  absl::Status end_status() ABSL_LOCKS_EXCLUDED(end_mutex_);
  // The only reply of a call that ended with OK; false if it does not parse. REQUIRES: it has ended.
  bool ReadOnlyReply(google::protobuf::MessageLite& reply) { return reply.ParseFromString(reply_); }

  // Takes the call, which is not sent yet, out of where it waits, and ends it; set before the start.
  absl::AnyInvocable<void(std::shared_ptr<ClientStreamCall> call, absl::Status why)> cancel_waiting;

 private:
  void FailUnopened(const absl::Status& why) override;

  const std::shared_ptr<void> keep_alive_;
  // Null before the start and after the end.
  std::shared_ptr<ClientStreamCall> self_;
  // Written before the end.
  std::string reply_;

  transport::Mutex end_mutex_;
  bool has_ended_ ABSL_GUARDED_BY(end_mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(end_mutex_);
  Waiter end_waiter_ ABSL_GUARDED_BY(end_mutex_);
};

// A ClientStreamHandle is what the three kinds of streams below have in common: how the call ends. In a
// process that was forked since the channel was made, reads and writes find the call ended, and its status is
// FAILED_PRECONDITION, all at once: callbacks are run before the function returns.
class ClientStreamHandle {
 public:
  explicit ClientStreamHandle(std::shared_ptr<ClientStreamCall> call) : call_(std::move(call)) {}
  ClientStreamHandle(ClientStreamHandle&&) = default;
  ClientStreamHandle& operator=(ClientStreamHandle&& other) noexcept {
    if (this != &other) LetGo();
    call_ = std::move(other.call_);
    return *this;
  }
  // Cancels the call, unless it has ended. In a process that was forked since the channel was made, does
  // nothing.
  ~ClientStreamHandle() { LetGo(); }

  // Ends the call with CANCELLED, unless it has ended, and tells the server. Thread-safe.
  void Cancel();

 protected:
  // What a coroutine waits for the end with.
  class EndAwaiter {
   public:
    explicit EndAwaiter(std::shared_ptr<ClientStreamCall> call) : call_(std::move(call)) {}
    EndAwaiter(const EndAwaiter&) = delete;
    EndAwaiter& operator=(const EndAwaiter&) = delete;

    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> coroutine);
    absl::Status await_resume() { return call_->end_status(); }

   private:
    const std::shared_ptr<ClientStreamCall> call_;
    Resumption resumption_;
  };

  const std::shared_ptr<ClientStreamCall>& call() const { return call_; }
  // Reads no more, and waits for the end.
  absl::Status WaitForEnd() const;
  // The same, without waiting: runs `done` on the event loop's thread.
  void WhenEnded(StatusCallback done) const;

 private:
  void LetGo();

  std::shared_ptr<ClientStreamCall> call_;
};

// A ServerStream is a call with one request and a stream of replies, as its client holds it.
//
//   ferry::ServerStream<Event> events = stub.Watch(request);
//   Event event;
//   while (events.Read(event)) Handle(event);
//   absl::Status status = events.Finish();
//
// Movable. One thread at a time, but for Cancel. May outlive its channel, though not the loops that the
// channel was given: the call has ended then, and callbacks are destroyed without being run.
template <typename Reply>
class ServerStream : public ClientStreamHandle, public StreamReader<Reply> {
 public:
  explicit ServerStream(std::shared_ptr<ClientStreamCall> call)
      : ClientStreamHandle(call), StreamReader<Reply>(call) {}

  // Waits for the call's end and says how it ended. Replies that were not read are dropped. Not on an event
  // loop's thread.
  absl::Status Finish() { return WaitForEnd(); }
  // Runs `done` with that, on the event loop's thread.
  void Finish(StatusCallback done) { WhenEnded(std::move(done)); }
  // For `co_await stream.CoFinish()`: that status. The coroutine runs on on the event loop's thread.
  [[nodiscard]] EndAwaiter CoFinish() { return EndAwaiter(call()); }
};

// A ClientStream is a call with a stream of requests and one reply, as its client holds it.
template <typename Request, typename Reply>
class ClientStream : public ClientStreamHandle, public StreamWriter<Request> {
 public:
  explicit ClientStream(std::shared_ptr<ClientStreamCall> call)
      : ClientStreamHandle(call), StreamWriter<Request>(call) {}

  // Ends the requests, waits for the call's end, and returns the reply.
  absl::StatusOr<Reply> Finish() {
    call()->FinishWriting();
    return ReplyOf(*call(), WaitForEnd());
  }
  // Runs `done` with that, on the event loop's thread.
  void Finish(ReplyCallback<Reply> done) {
    call()->FinishWriting();
    WhenEnded([call = call(), done = std::move(done)](absl::Status status) mutable {
      std::move(done)(ReplyOf(*call, std::move(status)));
    });
  }

  // Waits for that in a coroutine, which runs on on the event loop's thread.
  Task<absl::StatusOr<Reply>> CoFinish() {
    call()->FinishWriting();
    return EndOf(call());
  }

 private:
  static Task<absl::StatusOr<Reply>> EndOf(std::shared_ptr<ClientStreamCall> call) {
    absl::Status status = co_await EndAwaiter(call);
    co_return ReplyOf(*call, std::move(status));
  }
  static absl::StatusOr<Reply> ReplyOf(ClientStreamCall& call, absl::Status status) {
    if (!status.ok()) return status;
    absl::StatusOr<Reply> reply(absl::in_place);
    if (!call.ReadOnlyReply(*reply)) reply = absl::InternalError("the reply does not parse");
    return reply;
  }
};

// A BidiStream is a call with a stream of requests and one of replies, as its client holds it. Reading and
// writing may be done by one thread each.
template <typename Request, typename Reply>
class BidiStream : public ClientStreamHandle, public StreamReader<Reply>, public StreamWriter<Request> {
 public:
  explicit BidiStream(std::shared_ptr<ClientStreamCall> call)
      : ClientStreamHandle(call), StreamReader<Reply>(call), StreamWriter<Request>(call) {}

  // Ends the requests: the server's reader is told. False if the call has ended.
  bool WritesDone() { return call()->FinishWriting(); }

  // Ends the requests if they have not been, waits for the call's end and says how it ended. Replies that
  // were not read are dropped. Not on an event loop's thread.
  absl::Status Finish() {
    call()->FinishWriting();
    return WaitForEnd();
  }
  // Runs `done` with that, on the event loop's thread.
  void Finish(StatusCallback done) {
    call()->FinishWriting();
    WhenEnded(std::move(done));
  }
  // For `co_await stream.CoFinish()`: that status. The coroutine runs on on the event loop's thread.
  [[nodiscard]] EndAwaiter CoFinish() {
    call()->FinishWriting();
    return EndAwaiter(call());
  }
};

}  // namespace ferry

#endif  // FERRY_RPC_CLIENT_STREAM_H_
