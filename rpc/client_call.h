// One call as its client's side keeps it, in the forms that stubs offer.
#ifndef FERRY_RPC_CLIENT_CALL_H_
#define FERRY_RPC_CLIENT_CALL_H_

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/message_assembly.h"
#include "ferry/rpc/method.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A ClientCall is one call from its start to its one end.
//
// It is not owned by the channel that runs it, and must live until Complete is called. Whoever takes a call
// out of the place where it is kept (a table of calls, a queue of waiting ones) is the one who ends it:
// presence there is its state, so a deadline, a reply and a lost connection may race without knowing of each
// other.
class ClientCall {
 public:
  virtual ~ClientCall() = default;

  // Reads the reply out of `bytes`. Called at most once, before Complete, with nothing locked.
  virtual bool ParseReply(absl::string_view bytes) = 0;

  // The call has ended. Called exactly once, on a loop's thread, with nothing locked. The call may be
  // destroyed or used for another call inside.
  virtual void Complete(absl::Status status) = 0;

  // The call's entry among deadlines.
  struct DeadlineTimer : transport::Timer {
    explicit DeadlineTimer(ClientCall* c) : call(c) {}
    ClientCall* const call;
  };

  // What the call is, set by Channel::Start and constant until it has ended.
  const MethodDescriptor* method = nullptr;
  transport::Instant deadline;
  bool wait_for_ready = false;
  ReplyMetadata* reply_metadata = nullptr;
  // The encoded RequestHead; empty when there is nothing to say in it.
  std::string head;

  // The request, encoded, of a call that has to wait before it can be sent. Belongs to the queue it waits in.
  transport::Block waiting_request;
  size_t waiting_request_size = 0;

  // Belong to the queue or the session that keeps the call, under its mutex.
  DeadlineTimer deadline_timer{this};
  transport::StreamId stream;
  // Which REQUEST of its connection it was, from 1 (PROTOCOL.md [P6.10]).
  uint64_t ordinal = 0;
  // Belongs to the session's loop: a reply that arrives in fragments.
  MessageAssembly reply_fragments;
};

// A BlockingCall is a call whose caller waits: it lives on that caller's stack.
template <typename Reply>
class BlockingCall final : public ClientCall {
 public:
  explicit BlockingCall(Reply& reply) : reply_(reply) {}

  // Waits for the call's end.
  absl::Status Wait() {
    ended_.WaitForNotification();
    return std::move(status_);
  }

  bool ParseReply(absl::string_view bytes) override {
    return reply_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  void Complete(absl::Status status) override {
    status_ = std::move(status);
    ended_.Notify();
  }

 private:
  Reply& reply_;
  absl::Status status_;
  absl::Notification ended_;
};

template <typename Reply>
class ClientCallPool;

// A CallbackCall is a call whose end runs a callback: it returns to its pool just before.
template <typename Reply>
class CallbackCall final : public ClientCall {
 public:
  explicit CallbackCall(ClientCallPool<Reply>& pool) : pool_(pool) {}

  // Makes this a new call that puts its reply in `reply`, or one that hands it over.
  void Begin(Reply& reply, StatusCallback done) {
    reply_ = &reply;
    done_ = std::move(done);
  }
  void Begin(ReplyCallback<Reply> done) { done_fresh_ = std::move(done); }

  bool ParseReply(absl::string_view bytes) override {
    Reply& reply = reply_ == nullptr ? fresh_ : *reply_;
    return reply.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  void Complete(absl::Status status) override;

 private:
  ClientCallPool<Reply>& pool_;
  // Exactly one of the two callbacks is set; reply_ goes with done_.
  Reply* reply_ = nullptr;
  StatusCallback done_;
  Reply fresh_;
  ReplyCallback<Reply> done_fresh_;
};

// What a channel keeps of every ClientCallPool.
class AnyClientCallPool {
 public:
  virtual ~AnyClientCallPool() = default;
};

// A ClientCallPool keeps the call objects of callback calls with replies of one type, to use them again.
//
// Thread-safe.
template <typename Reply>
class ClientCallPool final : public AnyClientCallPool {
 public:
  // A call that will put its reply in `reply`, and one that will hand it to `done`.
  ClientCall& Take(Reply& reply, StatusCallback done) {
    CallbackCall<Reply>& call = TakeAny();
    call.Begin(reply, std::move(done));
    return call;
  }
  ClientCall& Take(ReplyCallback<Reply> done) {
    CallbackCall<Reply>& call = TakeAny();
    call.Begin(std::move(done));
    return call;
  }

  void Return(CallbackCall<Reply>& call) {
    absl::MutexLock lock(&mutex_);
    free_.push_back(&call);
  }

 private:
  CallbackCall<Reply>& TakeAny() {
    absl::MutexLock lock(&mutex_);
    if (free_.empty()) {
      all_.push_back(std::make_unique<CallbackCall<Reply>>(*this));
      free_.reserve(all_.capacity());
      return *all_.back();
    }
    CallbackCall<Reply>& call = *free_.back();
    free_.pop_back();
    return call;
  }

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<CallbackCall<Reply>>> all_ ABSL_GUARDED_BY(mutex_);
  std::vector<CallbackCall<Reply>*> free_ ABSL_GUARDED_BY(mutex_);
};

template <typename Reply>
void CallbackCall<Reply>::Complete(absl::Status status) {
  if (std::exchange(reply_, nullptr) != nullptr) {
    StatusCallback done = std::move(done_);
    pool_.Return(*this);
    std::move(done)(std::move(status));
    return;
  }
  ReplyCallback<Reply> done = std::move(done_fresh_);
  absl::StatusOr<Reply> result = status.ok() ? absl::StatusOr<Reply>(std::move(fresh_)) : std::move(status);
  fresh_.Clear();
  pool_.Return(*this);
  std::move(done)(std::move(result));
}

}  // namespace ferry

#endif  // FERRY_RPC_CLIENT_CALL_H_
