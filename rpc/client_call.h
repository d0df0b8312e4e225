// One call as its client's side keeps it, in the forms that stubs offer.
#ifndef FERRY_RPC_CLIENT_CALL_H_
#define FERRY_RPC_CLIENT_CALL_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_cancellation.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_routing.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/message_assembly.h"
#include "ferry/rpc/method.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/mutex.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

class Stream;

// A RequestCopy keeps the bytes of a small request, in memory that it keeps for the next one.
//
// Thread-compatible.
class RequestCopy {
 public:
  // Where `size` bytes are to be put; what was there is forgotten.
  char* Prepare(size_t size) {
    if (ABSL_PREDICT_FALSE(size > capacity_)) Grow(size);
    return bytes_.get();
  }
  const char* data() const { return bytes_.get(); }

 private:
  void Grow(size_t size);

  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
};

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

  // The same for a reply that came in fragments, of `size` bytes, which is at least 1. A call whose caller
  // waits keeps it for the caller to read: that takes long, and the loop has other calls.
  virtual bool TakeLargeReply(transport::Block&& bytes, size_t size) {
    return ParseReply(absl::string_view(bytes.data(), size));
  }

  // Ends the call: nothing cancels it any more, and Complete is called. Exactly once, on the loop's thread,
  // with nothing locked; by whoever has taken the call out of where it was kept.
  //
  // A call with a router is the router's then, which may send it again.
  void End(absl::Status status) {
    if (ABSL_PREDICT_FALSE(router != nullptr)) {
      return std::exchange(router, nullptr)->OnAttemptEnd(*this, std::move(status));
    }
    if (ABSL_PREDICT_FALSE(cancellation != nullptr || request_block)) LetGo();
    Complete(std::move(status));
  }

  // The call has ended. For End alone to call. The call may be destroyed or used for another call inside.
  virtual void Complete(absl::Status status) = 0;

  // The call's entry among deadlines.
  struct DeadlineTimer : transport::Timer {
    explicit DeadlineTimer(ClientCall* c) : call(c) {}
    ClientCall* const call;
  };

  // What a plain call needs comes first, in as few lines of the processor's cache as that takes: of many
  // calls in flight each is out of the nearest cache when its reply comes.

  // What the call is, set by Channel::Start and constant until it has ended.
  const MethodDescriptor* method = nullptr;
  transport::Instant deadline;
  ReplyMetadata* reply_metadata = nullptr;
  // The messages of a call that streams; null otherwise. As long-lived as the call.
  Stream* messages = nullptr;

  // Who is told of the end of an attempt; null for a call to one server.
  CallRouter* router = nullptr;

  // The request, for a call that waits to be sent or may have to be sent again: the message itself, if that
  // lives as long as the call; or its encoded bytes, in a block or, if they are few and were sent at once, in
  // a copy. Belongs to the queue or the session that keeps the call, but for lasting_request, which is set
  // before the start.
  const google::protobuf::MessageLite* lasting_request = nullptr;
  transport::Block request_block;
  RequestCopy request_copy;
  size_t request_size = 0;

  // Belong to the queue or the session that keeps the call, under its mutex.
  // Which REQUEST of its connection it was, from 1 (PROTOCOL.md [P6.10]).
  uint64_t ordinal = 0;
  // How many writes of the connection had begun before its request was appended.
  uint64_t writes_before = 0;
  transport::StreamId stream;

  // How often the call was given to a connection that has given it back, as surely not executed or as one of
  // an idempotent method; or, for calls that wait, how many connections in a row turned it away.
  int turned_away = 0;
  bool wait_for_ready = false;
  // Whether the caller sees to it that somebody runs the loop, which has just been run.
  bool caller_runs_loop = false;
  // Of the attempt that has ended last, if it has failed. Written by whoever ends it.
  Execution execution = Execution::kNotSent;
  CallPhase phase = CallPhase::kQueue;
  // Belongs to the session's loop: a part of a stream of replies has come.
  bool answering = false;

  // Null unless something may cancel the call from outside.
  std::shared_ptr<CallCancellation> cancellation;
  // Belongs to the session's loop: a reply that arrives in fragments.
  MessageAssembly reply_fragments;
  // The encoded RequestHead; empty when there is nothing to say in it.
  std::string head;
  // As stream.
  DeadlineTimer deadline_timer{this};
  // What the router keeps with the call; lasts for the next one.
  std::unique_ptr<CallRouting> routing;

 private:
  void LetGo();
};

// How a call ends whose reply, of `size` bytes, does not parse.
absl::Status ReplyDoesNotParse(size_t size);

// A WaitedCall is a call whose caller waits for it.
class WaitedCall : public ClientCall {
 public:
  // Waits for the call's end: polls for `poll_time` at most, if that has lately paid on this thread, and
  // blocks then.
  void Wait(absl::Duration poll_time) {
    Poll(poll_time, [] { return false; });
    Block();
  }
  // The first half of that, which is also over when `found`, which each round calls, answers true.
  void Poll(absl::Duration poll_time, absl::FunctionRef<bool()> found);
  // The other half.
  void Block();
  // Whether the call has ended.
  bool ended() const { return state_.load(std::memory_order_acquire) == State::kEnded; }

  // Has the loop lend itself to guests when the call has ended. Before the call is started.
  void LendWhenEnded(transport::EventLoop& loop) { loop_to_lend_ = &loop; }

  // How it ended. REQUIRES: ended().
  absl::Status TakeStatus() { return std::move(status_); }

  void Complete(absl::Status status) final;

 private:
  // The caller changes kRunning to kAwaited before it blocks; Complete changes either to kEnded and wakes the
  // caller if it found kAwaited. Complete's release pairs with the acquire of whoever finds kEnded.
  enum class State : uint32_t { kRunning, kAwaited, kEnded };

  transport::EventLoop* loop_to_lend_ = nullptr;
  absl::Status status_;
  std::atomic<State> state_{State::kRunning};
};

// A BlockingCall is a WaitedCall that lives on its caller's stack.
template <typename Reply>
class BlockingCall final : public WaitedCall {
 public:
  explicit BlockingCall(Reply& reply) : reply_(reply) {}

  bool ParseReply(absl::string_view bytes) override {
    return reply_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  bool TakeLargeReply(transport::Block&& bytes, size_t size) override {
    large_ = std::move(bytes);
    large_size_ = size;
    return true;
  }

  // How it ended, once a large reply is read, too. REQUIRES: ended().
  absl::Status TakeStatus() {
    absl::Status status = WaitedCall::TakeStatus();
    if (ABSL_PREDICT_TRUE(large_size_ == 0) || !status.ok()) return status;
    if (!ParseReply(absl::string_view(large_.data(), large_size_))) return ReplyDoesNotParse(large_size_);
    return status;
  }

 private:
  Reply& reply_;
  // A reply that came in fragments.
  transport::Block large_;
  size_t large_size_ = 0;
};

template <typename Reply>
class ClientCallPool;

// A CallbackCall is a call whose end runs a callback: it returns to its pool just before.
template <typename Reply>
class CallbackCall final : public ClientCall {
 public:
  explicit CallbackCall(ClientCallPool<Reply>& pool) : pool_(pool) {}

  // Makes this a new call that puts its reply in `reply`, or one that hands it over.
  void Begin(Reply& reply, StatusCallback&& done) {
    reply_ = &reply;
    done_ = std::move(done);
  }
  void Begin(ReplyCallback<Reply>&& done) { done_fresh_ = std::move(done); }

  bool ParseReply(absl::string_view bytes) override {
    Reply& reply = reply_ == nullptr ? fresh_ : *reply_;
    return reply.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  void Complete(absl::Status status) override;

  // In a list of free calls.
  CallbackCall* next_free = nullptr;

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
// Calls end on the loop, so the loop keeps most of them, for the calls that callbacks start, without a lock.
//
// Thread-safe. `loop` must outlive the use, but not the pool.
template <typename Reply>
class ClientCallPool final : public AnyClientCallPool {
 public:
  explicit ClientCallPool(transport::EventLoop& loop) : loop_(loop) {}

  // A call that will put its reply in `reply`, and one that will hand it to `done`.
  ClientCall& Take(Reply& reply, StatusCallback&& done) {
    CallbackCall<Reply>& call = TakeAny();
    call.Begin(reply, std::move(done));
    return call;
  }
  ClientCall& Take(ReplyCallback<Reply>&& done) {
    CallbackCall<Reply>& call = TakeAny();
    call.Begin(std::move(done));
    return call;
  }

  transport::EventLoop& loop() const { return loop_; }

  void Return(CallbackCall<Reply>& call) {
    if (loop_.InLoop() && loop_count_ < kMaxLoopCount) {
      ++loop_count_;
      call.next_free = std::exchange(loop_free_, &call);
      return;
    }
    transport::MutexLock lock(mutex_);
    call.next_free = std::exchange(free_, &call);
  }

 private:
  // Threads that start calls but never end them find the rest in free_.
  static constexpr int kMaxLoopCount = 256;

  CallbackCall<Reply>& TakeAny() {
    if (loop_.InLoop() && loop_free_ != nullptr) {
      --loop_count_;
      return *std::exchange(loop_free_, loop_free_->next_free);
    }
    transport::MutexLock lock(mutex_);
    if (free_ != nullptr) return *std::exchange(free_, free_->next_free);
    all_.push_back(std::make_unique<CallbackCall<Reply>>(*this));
    return *all_.back();
  }

  transport::EventLoop& loop_;
  transport::Mutex mutex_;
  std::vector<std::unique_ptr<CallbackCall<Reply>>> all_ ABSL_GUARDED_BY(mutex_);
  CallbackCall<Reply>* free_ ABSL_GUARDED_BY(mutex_) = nullptr;
  // Belong to the loop.
  CallbackCall<Reply>* loop_free_ = nullptr;
  int loop_count_ = 0;
};

template <typename Reply>
void CallbackCall<Reply>::Complete(absl::Status status) {
  // A thread that only waits for a call of its own must not run an application's callback.
  if (pool_.loop().run_by_guest()) {
    return pool_.loop().PostToOwner(
        [this, status = std::move(status)]() mutable { Complete(std::move(status)); });
  }
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
