// The calls of one connection, as the server runs them.
#ifndef FERRY_RPC_SERVER_SESSION_H_
#define FERRY_RPC_SERVER_SESSION_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/budget.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/flood_guard.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/method_table.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_output.h"
#include "ferry/rpc/server_slots.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"

namespace ferry {

// A ServerSession takes requests from one connection, has their handlers run, and has what they answer sent.
//
//     OnFrame -> OnRequest -> [fragments] -> Admit -> inline:   handler -> EndCall -> ServerOutput
//                                                 '-> executor: RunCall -> handler -> EndCall -> ServerOutput
//                                  [messages of a stream] -> Stream -> handler
//
// Belongs to the connection's loop; RunCall, EndCall and WatchDeadline are Thread-safe. Owned by shared_ptr:
// by its server until the connection is closed, and from then on by itself until the last call in flight has
// ended, for handlers may outlive the connection. A call that runs inline, on the loop from its start to its
// end, takes no lock and no atomic read-modify-write instruction.
class ServerSession final : public ServerCall::Owner,
                            public StreamCarrier,
                            public ServerContext::DeadlineWatcher,
                            public std::enable_shared_from_this<ServerSession>,
                            private transport::Connection::Handler {
 public:
  // What the sessions of one server share.
  struct Shared {
    transport::Connection::Options connection;
    WireSettings settings;
    MethodTable methods;
    Executor* executor = nullptr;
    // Handlers that are coroutines.
    const std::shared_ptr<WorkCount> coroutines = std::make_shared<WorkCount>();
    // Of requests over 4 KiB that are not answered yet, on all connections and on each.
    Budget request_budget;
    size_t max_request_bytes_per_connection = 0;
    // Of replies that wait for a client to accept them: beyond it further requests are refused.
    size_t max_reply_bytes_per_connection = 128 * 1024 * 1024;
    // Frames from one connection that no window and no slot bounds (PROTOCOL.md [P14.5]).
    uint32_t max_control_frames_per_second = 100'000;
    void (*log)(std::string_view line) = nullptr;
    // Calls whose handler was not started, and answers of handlers that were not sent, because nobody waited
    // for them any more.
    std::atomic<uint64_t> calls_dropped{0};
    std::atomic<uint64_t> answers_dropped{0};

    Shared(const InlineGuard::Options& inline_guard, size_t max_request_bytes)
        : methods(inline_guard), request_budget(max_request_bytes) {}
    virtual ~Shared() = default;
    // The connection is closed; calls may still be in flight. Told once, on the loop.
    virtual void OnSessionEnded(ServerSession& session) = 0;
  };

  // `loop_index` says which of the recyclers are this loop's. `loop` is not owned and must outlive the
  // session.
  ServerSession(std::shared_ptr<Shared> shared, transport::EventLoop& loop, size_t loop_index,
                std::unique_ptr<transport::ByteStream> stream);

  // Begins the connection. On the loop.
  void Begin();

  // Takes no more calls, says so (PROTOCOL.md [P13.5]), and closes the connection when those in flight have
  // ended. A client whose preface has come but was not read yet is told too. Does nothing the second time. On
  // the loop.
  void Drain();

  // Cancels the calls in flight and closes the connection. On the loop.
  void Close(const absl::Status& why);

  void RunCall(ServerCall& call) override;
  void EndCall(ServerCall& call, absl::Status status) override;
  void WatchDeadline(transport::Instant due) override;

  transport::EventLoop& loop() const { return loop_; }

 private:
  void OnFrame(const transport::Frame& frame) override {
    if (settings_seen_ && IsPlainRequest(frame.header)) return OnRequest(frame);
    OnOtherFrame(frame);
  }
  void OnEndOfRead() override;
  void OnRoom() override;
  void OnEndOfInput() override;
  void OnPreface() override;
  void OnMalformedInput(const absl::Status& why, bool tell_peer) override;
  void Break(const absl::Status& why) { OnMalformedInput(why, true); }
  void OnClosed(const absl::Status& why) override;

  void OnOtherFrame(const transport::Frame& frame);
  bool IsFlood();
  void OnSettings(const transport::Frame& frame);
  void OnRequest(const transport::Frame& frame);
  void OnMessage(const transport::Frame& frame);
  void OnFragment(const transport::Frame& frame, ServerSlot& slot, ServerCall& call);
  void OnStreamed(const transport::Frame& frame, ServerSlot& slot);
  void OnWindow(const transport::Frame& frame);
  void OnCancel(const transport::Frame& frame);
  void OnDrain(const transport::Frame& frame);
  absl::Status CheckInRange(transport::StreamId stream) const;
  bool IsForCall(const transport::Frame& frame);
  absl::Status CheckSlot(transport::StreamId stream) const;
  bool IsAdmissible(const transport::FrameHeader& header) const {
    return !draining_ && !drained_ && header.stream.slot() < shared_->settings.max_streams &&
           header.message_size() <= shared_->settings.max_message &&
           output_.waiting_bytes() <= shared_->max_reply_bytes_per_connection;
  }
  absl::Status WhyInadmissible(const transport::Frame& frame) const;
  void OnInadmissible(const transport::Frame& frame);
  ServedMethod* FindMethod(uint64_t id);
  ServerSlot* FreeSlot(transport::StreamId stream);
  void BreakForSlotInUse(transport::StreamId stream);
  void OpenStream(ServerSlot& slot, ServerCall& call);
  void BeginLarge(const transport::Frame& frame, ServerCall& call);
  bool Parse(absl::string_view message, ServerCall& call);
  absl::Status ReadHead(const transport::Frame& frame, ServerCall& call);
  void Admit(ServerCall& call);
  void RunInline(ServerCall& call);
  transport::Instant ReadTime();
  static void Cancel(ServerSlot& slot, ServerCall& call);
  static absl::Status EndStream(ServerCall& call);
  void OnDeadline();
  void CancelCalls(const absl::Status& why);
  void EndArriving(const absl::Status& why);
  void SendDrain();
  void SetLastCalls();
  void CloseAfterRounds(int rounds);
  void CloseIfDone();
  void CountEnd(bool in_loop);
  bool closed() const { return (ends_.load(std::memory_order_acquire) & kClosed) != 0; }
  // Calls whose answers are not appended yet. On the loop.
  uint64_t in_flight() const { return begun_ - ends_.load() / kOneEnd; }

  absl::Status WhyUnwanted(ServerCall& call, const absl::Status& status) const;

  // Streams.
  uint64_t carrier_max_message() const override { return output_.max_message(); }
  MessageSender::Added SendStreamed(const MessageFrames& frames, const google::protobuf::MessageLite& message,
                                    size_t size, MessageSender::OnSent on_sent) override {
    return output_.SendStreamed(frames, message, size, std::move(on_sent));
  }
  MessageSender::Added SendStreamed(const MessageFrames&, absl::string_view, MessageSender::OnSent) override {
    return MessageSender::Added::kClosed;  // streams are open before their handlers write
  }
  void SendStreamEnd(transport::StreamId, uint8_t) override {}  // the call's end is
  // EndCall asks the stream.
  void FailStream(std::shared_ptr<Stream>, transport::StreamId, absl::Status) override {}
  void Grant(transport::StreamId stream, size_t bytes) override;

  // Constant.
  const std::shared_ptr<Shared> shared_;
  transport::EventLoop& loop_;
  const size_t loop_index_;
  const std::shared_ptr<transport::Connection> connection_;
  const ServerContext::Place place_;

  // Two flags, and how many calls have ended elsewhere than on the loop or after closing, in one word so that
  // who counts an end knows what held just then:
  //   kLastCalls  no more calls will come, and the connection is to close when none is in flight
  //   kClosed     the connection is closed: the end that makes all begun ones ended lets go of self_
  static constexpr uint64_t kLastCalls = 1;
  static constexpr uint64_t kClosed = 2;
  static constexpr uint64_t kOneEnd = 4;
  std::atomic<uint64_t> ends_{0};
  // Set before kClosed, if calls are in flight then.
  std::shared_ptr<ServerSession> self_;

  ServerOutput output_;

  // Belong to the loop; request_budget_ is Thread-safe.
  Budget request_budget_;
  // The last method that was looked for, and its id.
  uint64_t last_method_id_ = 0;
  ServedMethod* last_method_ = nullptr;
  ServerSlots slots_;
  // Armed for the first deadline of the calls in flight that are to be told of it, and not before next_look_.
  transport::Timer deadline_timer_;
  transport::Instant next_look_;
  FloodGuard flood_guard_;
  // Of the connection's window: what the client has used of it and was not granted anew.
  size_t received_ = 0;
  // Calls that were begun, less those that ended on the loop: constant once the connection is closed.
  uint64_t begun_ = 0;
  // The client's preface has come: something may be sent.
  bool greeted_ = false;
  bool settings_seen_ = false;
  bool draining_ = false;
  bool last_calls_ = false;
  // REQUESTs so far (PROTOCOL.md [P6.10]), and whether the client has said that no more come.
  uint64_t requests_ = 0;
  bool drained_ = false;
  // Calls for the executor, handed over together at the end of the read.
  std::vector<Executor::Task*> to_execute_;
  // Whether there were calls with deadlines, and when the first call of this read that needed the time came.
  bool deadlines_seen_ = false;
  std::optional<transport::Instant> read_time_;
  // Inline calls since the last end of a read, and since when, at the earliest: timing each of them would
  // cost more than most take. Only after a read whose calls seem slow on average are some timed one by one.
  size_t inline_calls_ = 0;
  transport::Instant first_inline_;
  int calls_to_time_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_SESSION_H_
