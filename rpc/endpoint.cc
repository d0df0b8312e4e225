#include "ferry/rpc/endpoint.h"

#include <algorithm>
#include <utility>

#include "ferry/rpc/unanswered.h"

namespace ferry {

using transport::Instant;

std::shared_ptr<Endpoint> Endpoint::Create(const Options& options, transport::EventLoop& loop,
                                           std::shared_ptr<transport::Connector> connector) {
  return std::shared_ptr<Endpoint>(new Endpoint(options, loop, std::move(connector)));
}

Endpoint::Endpoint(const Options& options, transport::EventLoop& loop,
                   std::shared_ptr<transport::Connector> connector)
    : options_(options),
      loop_(loop),
      connector_(std::move(connector)),
      watched_(!options.watcher.expired()),
      backoff_(options.min_backoff, options.max_backoff, options.seed),
      wanted_wait_(kWantedWait, kWantedWait, options.seed),
      timer_([this] { OnTimer(); }) {}

Endpoint::~Endpoint() = default;

// ---------------------------------------------------------------- Any thread

void Endpoint::StartElsewhere(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) {
  const bool elsewhere = !loop_.InLoop();
  if (elsewhere && !started_elsewhere_.load(std::memory_order_relaxed)) {
    started_elsewhere_.store(true, std::memory_order_relaxed);
  }
  std::optional<ClientSession::Visit> visit;
  {
    transport::MutexLock lock(mutex_);
    // A loop that nobody runs may not know yet that the connection has ended: it is to look first.
    const bool may_be_stale = !call.caller_runs_loop && loop_.is_free();
    if (waiting_.empty() && state_ == State::kReady && !may_be_stale) visit.emplace(session_);
    if (visit.has_value() && visit->session() == nullptr && elsewhere) wants_session_ = true;
  }
  if (!visit.has_value() || visit->session() == nullptr) return Wait(call, request, size);
  // The call may end before StartOn returns, and its callback destroy the channel and this. The session keeps
  // the loop.
  transport::EventLoop& loop = loop_;
  const bool caller_runs_loop = call.caller_runs_loop;
  StartOn(*visit->session(), call, request, size);
  if (!caller_runs_loop) loop.EnsureRun();
}

// Gives a call to the watcher, for there is no connection.
void Endpoint::ReturnLater(ClientCall& call) {
  failures_to_tell_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call] {
    self->ReturnCalls({&call}, self->last_error());
    self->failures_to_tell_.fetch_sub(1, std::memory_order_release);
  });
}

void Endpoint::StartAgain(ClientCall& call, bool admitted) {
  loop_.AssertInLoop();
  bool ready;
  absl::Status may_wait;
  {
    transport::MutexLock lock(mutex_);
    ready = state_ == State::kReady;
    // Where none waits this one need not either.
    if (ready && !admitted && !waiting_.empty()) may_wait = CheckMayWait(call, call.request_size);
    if (ready && may_wait.ok()) Remember(call, /*at_front=*/false);
  }
  if (!ready) return ReturnLater(call);
  if (!may_wait.ok()) return RefuseLater(call, std::move(may_wait), CallPhase::kQueue);
  Pump();
}

void Endpoint::KeepConnected() {
  loop_.AssertInLoop();
  keep_connected_ = true;
  Pump();
}

void Endpoint::LetConnectionGo() {
  loop_.AssertInLoop();
  keep_connected_ = false;
  ArmTimer();
}

void Endpoint::ConnectSoon() {
  loop_.AssertInLoop();
  {
    transport::MutexLock lock(mutex_);
    if (state_ != State::kBackoff || std::exchange(hurried_, true)) return;
    const Instant soon = loop_.now() + wanted_wait_.Wait(0);
    if (soon >= retry_at_) return;
    retry_at_ = soon;
  }
  Pump();
}

size_t Endpoint::calls() {
  transport::MutexLock lock(mutex_);
  const size_t not_sent = waiting_.size() + failures_to_tell_.load(std::memory_order_acquire);
  if (loop_.InLoop()) {
    const std::shared_ptr<ClientSession>& session = greeting_ != nullptr ? greeting_ : ready_session_;
    return not_sent + (session != nullptr ? session->calls() : 0);
  }
  if (session_ != nullptr) return not_sent + session_->calls();
  // Of those of the loop's own session nobody else knows.
  return state_ == State::kReady || state_ == State::kGreeting ? kUnknown : not_sent;
}

void Endpoint::FailLater(ClientCall& call, absl::Status why) {
  failures_to_tell_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call, why = std::move(why)]() mutable {
    EndUnanswered(call, {.peer = self->options_.name}, std::move(why));
    self->failures_to_tell_.fetch_sub(1, std::memory_order_release);
  });
}

// As FailLater, for a call that was started and cannot be sent.
void Endpoint::RefuseLater(ClientCall& call, absl::Status why, CallPhase phase) {
  failures_to_tell_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call, why = std::move(why), phase]() mutable {
    EndUnanswered(call, {.phase = phase, .peer = self->options_.name}, std::move(why));
    self->failures_to_tell_.fetch_sub(1, std::memory_order_release);
  });
}

void Endpoint::CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) {
  loop_.Post([self = shared_from_this(), call = std::move(call), why = std::move(why)]() mutable {
    self->CancelCall(*call, std::move(why));
  });
}

// ---------------------------------------------------------------- The loop

// Makes the session the loop's alone, unless other threads have started calls lately: the loop then takes no
// lock for its calls.
void Endpoint::KeepForLoop() {
  loop_starts_ = 0;
  if (started_elsewhere_.exchange(false, std::memory_order_relaxed)) return;
  std::shared_ptr<ClientSession> session;
  {
    transport::MutexLock lock(mutex_);
    session = std::exchange(session_, nullptr);
  }
  // Nobody can begin a visit now.
  if (session == nullptr || (!session->has_visits() && session->Unshare())) return;
  transport::MutexLock lock(mutex_);
  session_ = std::move(session);
}

// Lets other threads have the session again, if one has come for it.
void Endpoint::ShareIfWanted() {
  transport::MutexLock lock(mutex_);
  if (!std::exchange(wants_session_, false) || session_ != nullptr || ready_session_ == nullptr) return;
  ready_session_->Share();
  session_ = ready_session_;
  loop_starts_wanted_ = std::min(8 * loop_starts_wanted_, kManyLoopStarts);
}

void Endpoint::AppendConnections(std::vector<ConnectionStats>& to) {
  loop_.AssertInLoop();
  State state;
  absl::Status last_error;
  {
    transport::MutexLock lock(mutex_);
    state = state_;
    last_error = last_error_;
  }
  for (const std::shared_ptr<ClientSession>& session : sessions_) {
    ConnectionStats& stats = to.emplace_back(session->Stats());
    stats.server = options_.name;
    stats.state = session == ready_session_ ? ConnectionStats::State::kReady
                  : session == greeting_    ? ConnectionStats::State::kConnecting
                                            : ConnectionStats::State::kDraining;
    stats.last_error = last_error;
  }
  if (state != State::kConnecting && state != State::kBackoff) return;
  to.push_back({.server = options_.name,
                .state = state == State::kConnecting ? ConnectionStats::State::kConnecting
                                                     : ConnectionStats::State::kWaiting,
                .last_error = std::move(last_error)});
}

void Endpoint::CancelCall(ClientCall& call, absl::Status why) {
  loop_.AssertInLoop();
  if (EndWaiting(call, why)) return;
  const auto holder = std::find_if(sessions_.begin(), sessions_.end(),
                                   [&](const auto& session) { return session->Holds(call); });
  if (holder == sessions_.end()) return;
  // The call's end may be that of this and the sessions.
  const std::shared_ptr<ClientSession> session = *holder;
  session->Abandon(call.stream, std::move(why));
}

void Endpoint::Close(const absl::Status& why) {
  loop_.AssertInLoop();
  const std::shared_ptr<Endpoint> self = shared_from_this();
  std::deque<ClientCall*> waiting;
  const CallPhase phase = PhaseOfWaiting();
  {
    transport::MutexLock lock(mutex_);
    failed_in_ = phase;
    state_ = State::kClosed;
    ready_session_ = nullptr;
    greeting_ = nullptr;
    last_error_ = why;
    waiting.swap(waiting_);
    has_waiting_.store(false, std::memory_order_relaxed);
    waiting_bytes_ = 0;
    waiting_early_ = 0;
    for (ClientCall* call : waiting) deadlines_.Remove(*call);
  }
  attempt_.reset();
  loop_.timers().Cancel(timer_);
  // Closing one takes it out of sessions_.
  for (const std::shared_ptr<ClientSession>& session : std::vector(sessions_)) session->Close(why);
  for (ClientCall* call : waiting) {
    EndWaited(*call, why);
  }
}

void Endpoint::PostToLoop(void (Endpoint::*task)()) {
  loop_.Post([self = shared_from_this(), task] { ((*self).*task)(); });
}

}  // namespace ferry
