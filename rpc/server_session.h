// The calls of one connection, as the server runs them.
#ifndef FERRY_RPC_SERVER_SESSION_H_
#define FERRY_RPC_SERVER_SESSION_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/budget.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/method_table.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"

namespace ferry {

// A ServerSession takes requests from one connection, has their handlers run, and sends what they answer.
//
//     OnFrame -> Begin -> [fragments] -> Admit -> inline:   handler -> EndCall -> output, flushed once a
//     batch
//                                             '-> executor: RunCall -> handler -> EndCall -> output
//
// Belongs to the connection's loop; RunCall and EndCall are Thread-safe. Owned by shared_ptr: by its server
// until the connection is closed, and by the calls in flight, whose handlers may outlive the connection.
class ServerSession final : public ServerCall::Owner,
                            public std::enable_shared_from_this<ServerSession>,
                            private transport::Connection::Handler {
 public:
  // What the sessions of one server share.
  struct Shared {
    transport::Connection::Options connection;
    WireSettings settings;
    MethodTable methods;
    Executor* executor = nullptr;
    // Of requests over 4 KiB that are not answered yet, on all connections and on each.
    Budget request_budget;
    size_t max_request_bytes_per_connection = 0;
    void (*log)(std::string_view line) = nullptr;

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
  // ended. Does nothing the second time. On the loop.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

  // Cancels the calls in flight and closes the connection. On the loop.
  void Close(absl::Status why);

  void RunCall(ServerCall& call) override;
  void EndCall(ServerCall& call, absl::Status status) override ABSL_LOCKS_EXCLUDED(mutex_);

  transport::EventLoop& loop() const { return loop_; }

 private:
  // A slot that a client may use; call is null while none does.
  struct Slot {
    transport::StreamId stream;
    ServerCall* call = nullptr;
    // A REQUEST has come on it.
    bool used = false;
    // Its request has not arrived whole; no handler has seen it.
    bool arriving = false;
  };

  void OnFrame(const transport::Frame& frame) override;
  void OnEndOfRead() override;
  void OnEndOfInput() override;
  void OnPreface() override;
  void OnMalformedInput(const absl::Status& why, bool tell_peer) override;
  void Break(const absl::Status& why) { OnMalformedInput(why, true); }
  void OnClosed(const absl::Status& why) override;

  void OnSettings(const transport::Frame& frame);
  void OnRequest(const transport::Frame& frame);
  void OnFragment(const transport::Frame& frame);
  void OnCancel(const transport::Frame& frame);
  void OnDrain(const transport::Frame& frame);
  absl::Status CheckInRange(transport::StreamId stream) const;
  bool IsForCall(const transport::Frame& frame) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckSlot(transport::StreamId stream) const;
  absl::Status CheckAdmissible(const transport::Frame& frame, ServedMethod*& method);
  bool Occupy(const transport::Frame& frame, ServerCall* call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Begin(const transport::Frame& frame, ServerCall& call);
  absl::Status ReadRequest(absl::string_view message, ServerCall& call);
  absl::Status ReadHead(const transport::Frame& frame, ServerCall& call);
  void Admit(ServerCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void RunInline(ServerCall& call);
  transport::Instant ReadTime();
  void EndArriving(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void Refuse(const transport::FrameHeader& request, const absl::Status& why);
  void CloseIfDone() ABSL_LOCKS_EXCLUDED(mutex_);

  // What EndCall sends. Returns the reply's size on the wire.
  size_t SendReply(ServerCall& call);
  void SendStatus(ServerCall& call, const absl::Status& status);

  // Constant.
  const std::shared_ptr<Shared> shared_;
  transport::EventLoop& loop_;
  const size_t loop_index_;
  const std::shared_ptr<transport::Connection> connection_;

  absl::Mutex mutex_;
  // Indexed by slot; grows as slots are used.
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;

  // Calls whose answers are not appended yet; and that no more will come: the connection closes once none is
  // in flight. A call's end counts down and then looks at last_calls_, which the loop sets before it looks at
  // the count: in the one order of both, one of the two sees that this was the last.
  std::atomic<size_t> in_flight_{0};
  std::atomic<bool> last_calls_{false};

  // The client's limits.
  std::atomic<uint64_t> max_message_;
  std::atomic<uint32_t> max_head_;

  // Belong to the loop.
  Budget request_budget_;
  // The client's preface has come: something may be sent.
  bool greeted_ = false;
  bool settings_seen_ = false;
  bool draining_ = false;
  // REQUESTs so far (PROTOCOL.md [P6.10]), and whether the client has said that no more come.
  uint64_t requests_ = 0;
  bool drained_ = false;
  // Calls for the executor, handed over together at the end of the read.
  std::vector<Executor::Task*> to_execute_;
  // Inline calls since the last end of a read, and when the first call that needed the time came: timing each
  // of them would cost more than most take. Only after a read whose calls were slow on average are some timed
  // one by one.
  size_t inline_calls_ = 0;
  std::optional<transport::Instant> read_time_;
  int calls_to_time_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_SESSION_H_
