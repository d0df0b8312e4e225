// One place that calls are sent to, whether there is a connection to it just now or not.
#ifndef FERRY_RPC_ENDPOINT_H_
#define FERRY_RPC_ENDPOINT_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/attempt_limiter.h"
#include "ferry/rpc/balancing/backoff.h"
#include "ferry/rpc/call_deadlines.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/client_session.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/server_target.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// An Endpoint keeps a session to one address: it connects when a call needs it, again when the connection is
// lost, and holds calls that cannot be sent yet. Calls that a session gives back, for they were surely not
// executed, are sent again over the next one, in their order and before others.
//
//     idle --a call--> connecting --> greeting --SETTINGS--> ready --lost, or DRAIN--> idle
//       ^                  | fails       | turned away
//       '--- backoff <-----+-------------'
//
// A call that does not wait for ready ends at once when an attempt to connect fails, and while we wait to try
// again. A connection that ends before the server's SETTINGS, or by DRAIN before it has answered anything,
// has turned its calls away: as servers do that are being replaced. The first time in a row we connect again
// at once; calls go on waiting, but those that do not wait for ready only until kMaxTurnedAway: turned away
// so often in a row, they or the endpoint, they end as when connecting fails.
//
// While greeting only requests of idempotent methods are sent: what becomes of those on a connection that
// ends before the server has said anything is not known.
//
// Start is Thread-safe; the rest belongs to the loop. Owned by shared_ptr: by its channel, and by tasks on
// the loop.
//
// One with a Watcher is one of several: it connects before any call wants it, and gives calls back rather
// than have them wait for a connection.
class Endpoint final : public std::enable_shared_from_this<Endpoint>,
                       public ServerTarget,
                       private ClientSession::Owner {
 public:
  struct Options {
    ClientSession::Options session = {};
    // What the server is called in statistics and failures; may be empty.
    std::string name = {};
    absl::Duration connect_timeout = absl::Seconds(10);
    // Connecting again waits for a random time up to a bound, which doubles from the first value to the
    // second with each failure in a row. The first attempt after a loss does not wait (kLasting).
    absl::Duration min_backoff = absl::Milliseconds(100);
    absl::Duration max_backoff = absl::Seconds(20);
    // How many calls may wait for a connection or a free slot, and how many bytes of requests.
    size_t max_waiting_calls = 10'000;
    size_t max_waiting_bytes = 64 * 1024 * 1024;
    // Of the random waits; 0 takes one from the system.
    uint64_t seed = 0;
    // Says when connecting may be tried; not owned, null for no such bound.
    AttemptLimiter* attempts = nullptr;
    // Calls are not given back to one that is gone: they end.
    std::weak_ptr<Watcher> watcher = {};
    // Lives as long as the endpoint: what calls that it may still have to end are kept in.
    std::shared_ptr<void> keep_alive = {};
  };

  // `loop` is not owned and must outlive the endpoint. Endpoints of one server may share the connector.
  static std::shared_ptr<Endpoint> Create(const Options& options, transport::EventLoop& loop,
                                          std::shared_ptr<transport::Connector> connector);
  ~Endpoint() override;

  // A connection that has lasted so long, or on which the server has answered, was a success: when it is
  // lost, the next attempt is the first.
  static constexpr absl::Duration kLasting = absl::Seconds(1);

  // How often a call that does not wait for ready is turned away before it ends with UNAVAILABLE.
  static constexpr int kMaxTurnedAway = 5;

  void Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) override
      ABSL_LOCKS_EXCLUDED(mutex_) {
    if (loop_.InLoop() && ready_session_ != nullptr && !has_waiting_.load(std::memory_order_relaxed)) {
      if (ABSL_PREDICT_FALSE(++loop_starts_ >= loop_starts_wanted_)) KeepForLoop();
      return StartOn(*ready_session_, call, request, size);
    }
    StartElsewhere(call, request, size);
  }

  void FailLater(ClientCall& call, absl::Status why) override;
  void CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) override;
  // Ends `call` with `why`, and has the server stop if it was sent to it. On the loop.
  void CancelCall(ClientCall& call, absl::Status why) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(const absl::Status& why) override ABSL_LOCKS_EXCLUDED(mutex_);

  bool has_failures() const override { return failures_to_tell_.load(std::memory_order_acquire) > 0; }
  size_t calls() override ABSL_LOCKS_EXCLUDED(mutex_);
  bool has_shared_calls() override ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return session_ != nullptr && session_->has_calls();
  }

  void AppendConnections(std::vector<ConnectionStats>& to) override ABSL_LOCKS_EXCLUDED(mutex_);

  void StartAgain(ClientCall& call, bool admitted) override ABSL_LOCKS_EXCLUDED(mutex_);

  // For one with a Watcher.
  void KeepConnected() override;
  // Takes that back: when the connection is lost, or is so already, there is no other. On the loop.
  void LetConnectionGo() ABSL_LOCKS_EXCLUDED(mutex_);
  // A call wants the connection: if it waits to try again, that is within kWantedWait now, at random: many
  // clients may want the same. On the loop.
  static constexpr absl::Duration kWantedWait = absl::Milliseconds(700);
  void ConnectSoon() override ABSL_LOCKS_EXCLUDED(mutex_);
  bool ready() const override { return ready_session_ != nullptr; }
  bool failing() override ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return failing_;
  }
  absl::Status last_error() override ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return last_error_;
  }
  // Whether an attempt has failed and it is not time for the next: calls that do not wait for ready end then.
  // On the loop.
  bool refusing() ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return state_ == State::kBackoff && !turned_away_ && loop_.now() < retry_at_;
  }
  // Whether the last connection has turned its calls away. On the loop.
  bool turned_away() ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return state_ == State::kBackoff && turned_away_;
  }
  // What calls that cannot be sent wait for, or have last waited for. Thread-safe.
  CallPhase PhaseOfWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  // How many calls the server allows at once; 0 if it is not connected. On the loop.
  size_t max_calls() const { return ready_session_ != nullptr ? ready_session_->max_calls() : 0; }

  transport::EventLoop& loop() const override { return loop_; }
  const WireSettings& settings() const override { return options_.session.settings; }

 private:
  static constexpr int kFewLoopStarts = 1024;
  static constexpr int kManyLoopStarts = 1 << 20;

  enum class State { kIdle, kConnecting, kGreeting, kReady, kBackoff, kClosed };

  Endpoint(const Options& options, transport::EventLoop& loop,
           std::shared_ptr<transport::Connector> connector);

  void StartOn(ClientSession& session, ClientCall& call, const google::protobuf::MessageLite& request,
               size_t size) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (size > session.max_message() || call.head.size() > session.max_head()) {
      return FailUnfit(session, call, size);
    }
    if (session.Start(call, request, size) != ClientSession::Started::kYes) Wait(call, request, size);
  }
  void StartElsewhere(ClientCall& call, const google::protobuf::MessageLite& request, size_t size)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void RefuseLater(ClientCall& call, absl::Status why, CallPhase phase);
  void FailUnfit(const ClientSession& session, ClientCall& call, size_t size);
  void Wait(ClientCall& call, const google::protobuf::MessageLite& request, size_t size)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckMayWait(const ClientCall& call, size_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remember(ClientCall& call, bool at_front) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Forget(ClientCall& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // On the loop.
  void KeepForLoop() ABSL_LOCKS_EXCLUDED(mutex_);
  void ShareIfWanted() ABSL_LOCKS_EXCLUDED(mutex_);
  void Pump() ABSL_LOCKS_EXCLUDED(mutex_);
  void SendEarly() ABSL_LOCKS_EXCLUDED(mutex_);
  void SendWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  void Connect() ABSL_LOCKS_EXCLUDED(mutex_);
  bool MustWaitForTurn() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnConnected(absl::StatusOr<std::unique_ptr<transport::ByteStream>> stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnConnectFailed(const absl::Status& why, CallPhase phase) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnTurnedAway(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndReturned(ClientCall& call, absl::Status why);
  void EndWaited(ClientCall& call, absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  static std::string HistoryOf(const ClientCall& call);
  absl::Status PrepareAgain(ClientCall& call, const absl::Status& why);
  void TellWatcher(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void ReturnLater(ClientCall& call);
  void ReturnCalls(const std::vector<ClientCall*>& calls, const absl::Status& why);
  absl::Status CheckMayWaitAgain(const ClientCall& call, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTimer() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndExpired() ABSL_LOCKS_EXCLUDED(mutex_);
  bool EndWaiting(ClientCall& call, absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  void ArmTimer() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnIntroduced(ClientSession& session) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnNoMoreCalls(ClientSession& session, const absl::Status& why) override;
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnSessionClosed(ClientSession& session) override;
  void OnSlotFree() override;
  void PostToLoop(void (Endpoint::*task)());

  std::atomic<size_t> failures_to_tell_{0};
  // Whether waiting_ is not empty: a hint, stored under the mutex, so that calls which start on the loop line
  // up behind those that wait.
  std::atomic<bool> has_waiting_{false};
  // Whether another thread has started a call since the loop last looked: a hint.
  std::atomic<bool> started_elsewhere_{false};

  // Constant.
  const Options options_;
  transport::EventLoop& loop_;
  const std::shared_ptr<transport::Connector> connector_;
  const bool watched_;

  transport::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kIdle;
  // The session that calls of other threads go to while state_ is kReady; null if it is the loop's alone.
  std::shared_ptr<ClientSession> session_ ABSL_GUARDED_BY(mutex_);
  // Another thread had to have its call sent by the loop, for the session was not shared.
  bool wants_session_ ABSL_GUARDED_BY(mutex_) = false;
  // In the order they came.
  std::deque<ClientCall*> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // How many of them may be sent while greeting.
  size_t waiting_early_ ABSL_GUARDED_BY(mutex_) = 0;
  CallDeadlines deadlines_ ABSL_GUARDED_BY(mutex_);
  // Why the last attempt to connect failed, or why all is closed; and how far calls had come then.
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  CallPhase failed_in_ ABSL_GUARDED_BY(mutex_) = CallPhase::kConnect;
  // While state_ is kBackoff: when to try again, and whether calls that do not wait for ready wait for that.
  transport::Instant retry_at_ ABSL_GUARDED_BY(mutex_);
  bool turned_away_ ABSL_GUARDED_BY(mutex_) = false;
  bool failing_ ABSL_GUARDED_BY(mutex_) = false;

  // Belong to the loop.
  std::unique_ptr<transport::Connector::Attempt> attempt_;
  // Every session whose connection is not closed yet.
  std::vector<std::shared_ptr<ClientSession>> sessions_;
  // The session whose server's SETTINGS have not come, while state_ is kGreeting.
  std::shared_ptr<ClientSession> greeting_;
  // The session that calls go to while state_ is kReady: for calls that start on the loop, without the mutex.
  std::shared_ptr<ClientSession> ready_session_;
  // How many calls the loop has started, since it last looked whether it alone starts any, and how many it
  // takes until it looks: more after each time that another thread came along.
  int loop_starts_ = 0;
  int loop_starts_wanted_ = kFewLoopStarts;
  int failures_in_a_row_ = 0;
  bool keep_connected_ = false;
  // The limiter has given us the time of the next attempt.
  bool attempt_reserved_ = false;
  bool hurried_ = false;
  Backoff backoff_;
  Backoff wanted_wait_;
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_ENDPOINT_H_
