// The calls of one connection, as its client keeps them.
#ifndef FERRY_RPC_CLIENT_SESSION_H_
#define FERRY_RPC_CLIENT_SESSION_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "ferry/rpc/budget.h"
#include "ferry/rpc/call_deadlines.h"
#include "ferry/rpc/call_table.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/flood_guard.h"
#include "ferry/rpc/keepalive.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/message_sender.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ClientSession sends the requests of calls over one connection and ends the calls by what comes back.
//
// Starting calls is Thread-safe, while the session is shared; all else belongs to the connection's loop. A
// session that is not shared is the loop's alone, which then takes no lock; it begins as shared. Calls are in
// the session's table from the moment they are given a slot until they end. Owned by shared_ptr: by its
// owner, and by threads that start a call just then. The owner keeps it until OnSessionClosed.
class ClientSession final : public StreamCarrier,
                            public std::enable_shared_from_this<ClientSession>,
                            private transport::Connection::Handler {
 public:
  // An Owner is told, on the loop, what becomes of its session.
  class Owner {
   public:
    virtual ~Owner() = default;
    // The server's SETTINGS have come. Told once at most, before the rest.
    virtual void OnIntroduced(ClientSession& session) = 0;
    // The session takes no more calls; those it has may still end well. Told once.
    virtual void OnNoMoreCalls(ClientSession& session, const absl::Status& why) = 0;
    // Calls that have not ended and may be sent again, whatever `why` says: the server has surely not
    // executed them, or has never introduced itself and their methods are idempotent. They are out of the
    // session, and the owner's to start again or end; in the order they were started.
    virtual void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) = 0;
    // The connection is closed. Told once, after OnNoMoreCalls; only OnCallsReturned may follow. The
    // session's calls have not ended yet but will when this returns, so it must live on for the rest of the
    // task.
    virtual void OnSessionClosed(ClientSession& session) = 0;
    // A slot has become free after Start had answered kFull.
    virtual void OnSlotFree() = 0;
  };

  struct Options {
    transport::Connection::Options connection;
    // What this side accepts.
    WireSettings settings;
    // Bytes of replies in fragments, and of streamed ones that nobody has read, that may be held.
    size_t max_fragment_bytes = 128 * 1024 * 1024;
    // Frames that no window and no slot bounds (PROTOCOL.md [P14.5]).
    uint32_t max_control_frames_per_second = 100'000;
    // When the server counts as gone that says nothing.
    Keepalive::Options keepalive = {};
    // Lives as long as the session: the loop, if nobody else is sure to keep it. A thread whose Start is
    // about to return may be the last to hold the session, after the call it started has ended and its
    // callback destroyed the channel.
    std::shared_ptr<void> keep_alive = {};
  };

  enum class Started {
    kYes,     // the call will end through its Complete
    kFull,    // every slot is in use; OnSlotFree will tell
    kClosed,  // nothing was sent; OnNoMoreCalls has been told, or is about to be
  };

  // `loop` and `owner` are not owned and must outlive the session.
  ClientSession(const Options& options, transport::EventLoop& loop, Owner& owner,
                std::unique_ptr<transport::ByteStream> stream);

  // Begins the connection. On the loop.
  void Begin();

  // Sends a call's request: `request`, of `size` = request.ByteSizeLong() just called, or the one in its
  // request_block. The request is kept with the call, which is otherwise left alone unless the answer is
  // kYes. Thread-safe.
  Started Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Started StartWaiting(ClientCall& call) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends a call with an error of this side's own, and has the server stop. Does nothing if it has ended. On
  // the loop.
  void Abandon(transport::StreamId stream, absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether `call` is one of the session's that have not ended. On the loop.
  bool Holds(const ClientCall& call) ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::SharedLock lock(mutex_, shared_);
    return table_.Find(call.stream) == &call;
  }

  // Cancels the calls and closes the connection; they end with `why` if that is CANCELLED, and with
  // UNAVAILABLE otherwise. On the loop.
  void Close(const absl::Status& why);

  // The longest message the server accepts. Thread-safe.
  uint64_t max_message() const { return max_message_.load(std::memory_order_relaxed); }
  // The longest head the server accepts. Thread-safe.
  uint32_t max_head() const { return max_head_.load(std::memory_order_relaxed); }

  // Whether there are calls that have not ended. Thread-safe.
  bool has_calls() ABSL_LOCKS_EXCLUDED(mutex_) { return calls() > 0; }
  size_t calls() ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::SharedLock lock(mutex_, shared_);
    return table_.calls();
  }

  // Makes the session the loop's alone; false, and it stays shared, if it has carried a stream, whose handles
  // may be anywhere. On the loop. REQUIRES: no other thread can start calls, or is inside a Visit.
  bool Unshare() ABSL_LOCKS_EXCLUDED(mutex_);
  // Before other threads get it again. On the loop.
  void Share() {
    // Others may be reading it, if a stream has made it true before.
    if (!shared_) shared_ = true;
  }

  // A Visit is how another thread holds the session while it starts a call.
  class Visit {
   public:
    // While its maker keeps the session from being unshared.
    explicit Visit(std::shared_ptr<ClientSession> session) : session_(std::move(session)) {
      if (session_ != nullptr) session_->visits_.fetch_add(1, std::memory_order_relaxed);
    }
    ~Visit() {
      if (session_ != nullptr) session_->visits_.fetch_sub(1, std::memory_order_release);
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    ClientSession* session() const { return session_.get(); }

   private:
    const std::shared_ptr<ClientSession> session_;
  };
  // Whether a thread is inside one. A release at a Visit's end pairs with the acquire here.
  bool has_visits() const { return visits_.load(std::memory_order_acquire) > 0; }

  // What the session has done, all but what makes it an endpoint's. On the loop; O(calls in flight).
  ConnectionStats Stats() ABSL_LOCKS_EXCLUDED(mutex_);
  // How many calls the server allows at once. On the loop.
  size_t max_calls() ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::SharedLock lock(mutex_, shared_);
    return max_streams_ - 1;
  }

  // Whether the server has answered a call, or begun to. On the loop.
  bool answered() const { return answered_; }
  // When the connection was made. On the loop.
  transport::Instant began() const { return began_; }
  // Whether the server has said that it takes no more calls. On the loop.
  bool drained() const { return drained_; }
  // Whether the server's SETTINGS have come; whether it has sent what breaks the protocol. On the loop.
  bool introduced() const { return settings_seen_; }
  bool broken() const { return broken_; }

 private:
  template <typename F>
  Started StartWith(ClientCall& call, F&& append) ABSL_LOCKS_EXCLUDED(mutex_);
  Started StartEncoded(ClientCall& call, EncodedMessage request) ABSL_LOCKS_EXCLUDED(mutex_);
  Started StartStream(ClientCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  // Lets `f` use the sender, and does what that asks for. Returns what `f` returns.
  template <typename F>
  auto WithSender(F&& f) ABSL_LOCKS_EXCLUDED(mutex_) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return UseSender(mutex_, shared_, sender_, std::forward<F>(f), [this] { connection_->FlushAppended(); });
  }
  void CheckDeadlinesAt(transport::Instant when);
  void OnDeadline();
  void TellOwner(const absl::Status& why);
  void SendCancels() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndCalls(const absl::Status& why, uint64_t last_write) ABSL_LOCKS_EXCLUDED(mutex_);
  void GiveBack(std::vector<ClientCall*> calls, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  ClientCall* Take(transport::StreamId stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndUnansweredCall(ClientCall& call, bool sent, absl::Status why);

  void OnFrame(const transport::Frame& frame) override {
    if (settings_seen_ && IsPlainResponse(frame.header)) return OnResponse(frame);
    OnOtherFrame(frame);
  }
  void OnOtherFrame(const transport::Frame& frame);
  bool IsFlood();
  void OnEndOfInput() override;
  void OnMalformedInput(const absl::Status& why, bool tell_peer) override;
  void Break(const absl::Status& why) { OnMalformedInput(why, true); }
  void OnClosed(const absl::Status& why) override;

  void OnSettings(const transport::Frame& frame);
  void OnDrain(const transport::Frame& frame);
  void GiveBackBeyond(uint64_t last_ordinal) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnConnectionStatus(const transport::Frame& frame);
  void OnCallFrame(const transport::Frame& frame);
  void GrantLate(const transport::FrameHeader& header);
  void CheckKnown(const transport::Frame& frame) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnResponse(const transport::Frame& frame);
  absl::Status CheckResponse(const transport::Frame& frame, ClientCall& call);
  void OnFragment(const transport::Frame& frame, ClientCall& call);
  void OnStreamed(const transport::Frame& frame, ClientCall& call);
  void OnWindow(const transport::Frame& frame) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnRoom() override ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsBeyondLimit(transport::StreamId stream) ABSL_LOCKS_EXCLUDED(mutex_);
  bool TakeOut(transport::StreamId stream, ClientCall** call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendCancel(transport::StreamId stream);
  void AfterTakingOut() ABSL_LOCKS_EXCLUDED(mutex_);
  MessageSender::Added SendStreamed(const MessageFrames& frames, EncodedMessage encoded,
                                    MessageSender::OnSent on_sent) ABSL_LOCKS_EXCLUDED(mutex_);

  // Streams.
  uint64_t carrier_max_message() const override { return max_message(); }
  MessageSender::Added SendStreamed(const MessageFrames& frames, const google::protobuf::MessageLite& message,
                                    size_t size, MessageSender::OnSent on_sent) override;
  MessageSender::Added SendStreamed(const MessageFrames& frames, absl::string_view encoded,
                                    MessageSender::OnSent on_sent) override;
  void SendStreamEnd(transport::StreamId stream, uint8_t priority) override;
  void Grant(transport::StreamId stream, size_t bytes) override;
  void FailStream(std::shared_ptr<Stream> failed, transport::StreamId stream, absl::Status why) override;

  void OnStatus(const transport::Frame& frame);
  void OnSilence();

  // Constant.
  const Options options_;
  transport::EventLoop& loop_;
  Owner& owner_;
  const std::shared_ptr<transport::Connection> connection_;

  std::atomic<int> visits_{0};
  // Whether other threads than the loop's may be here: written by the loop while they cannot be.
  bool shared_ = true;
  transport::Mutex mutex_;
  bool has_streamed_ ABSL_GUARDED_BY(mutex_) = false;
  CallTable table_ ABSL_GUARDED_BY(mutex_);
  CallDeadlines deadlines_ ABSL_GUARDED_BY(mutex_);
  uint32_t max_streams_ ABSL_GUARDED_BY(mutex_);
  // No more calls are taken.
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Counts the REQUESTs too (PROTOCOL.md [P6.10]).
  MessageSender sender_ ABSL_GUARDED_BY(mutex_);
  // Start has answered kFull since the last OnSlotFree.
  bool wants_slot_ ABSL_GUARDED_BY(mutex_) = false;

  // The server's limits: hints for early refusal, which the server repeats.
  std::atomic<uint64_t> max_message_;
  std::atomic<uint32_t> max_head_;
  // Whether both sides count windows (PROTOCOL.md section 11).
  std::atomic<bool> counting_{false};

  // What frames of a call that has ended for us have taken of its window and was not granted anew.
  struct LateCredit {
    transport::StreamId stream;
    size_t bytes = 0;
  };

  // Belong to the loop.
  // By slot: at most one for each that was ever used.
  absl::flat_hash_map<uint32_t, LateCredit> late_credit_;
  transport::Instant began_;
  // Of the connection's window: what the server has used of it and was not granted anew.
  size_t received_ = 0;
  FloodGuard flood_guard_;
  Keepalive keepalive_;
  bool settings_seen_ = false;
  bool answered_ = false;
  // EndCalls was called: there are no deadlines any more.
  bool ended_ = false;
  bool drained_ = false;
  bool broken_ = false;
  bool owner_told_ = false;
  Budget fragment_budget_;
  transport::Timer deadline_timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_CLIENT_SESSION_H_
