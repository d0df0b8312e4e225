#include "ferry/rpc/endpoint.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/resend.h"
#include "ferry/rpc/unanswered.h"
#include "ferry/transport/error_number.h"

namespace ferry {

using transport::Instant;

namespace {

// Whether a call's request may be sent to a server that has not introduced itself.
bool MayBeEarly(const ClientCall& call) { return call.method->idempotent && call.messages == nullptr; }

// RESOURCE_EXHAUSTED if the server would refuse a request for its size.
absl::Status CheckFits(const ClientCall& call, size_t size, const ClientSession& session) {
  if (size > session.max_message()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("request is ", size, " bytes, limit is ", session.max_message()));
  }
  if (call.head.size() > session.max_head()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("metadata is ", call.head.size(), " bytes, limit is ", session.max_head()));
  }
  return absl::OkStatus();
}

}  // namespace

std::shared_ptr<Endpoint> Endpoint::Create(const Options& options, transport::EventLoop& loop,
                                           std::unique_ptr<transport::Connector> connector) {
  return std::shared_ptr<Endpoint>(new Endpoint(options, loop, std::move(connector)));
}

Endpoint::Endpoint(const Options& options, transport::EventLoop& loop,
                   std::unique_ptr<transport::Connector> connector)
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
    if (waiting_.empty() && state_ == State::kReady && !loop_.is_free()) visit.emplace(session_);
    if (visit.has_value() && visit->session() == nullptr && elsewhere) wants_session_ = true;
  }
  if (!visit.has_value() || visit->session() == nullptr) return Wait(call, request, size);
  // The call may end before StartOn returns, and its callback destroy the channel and this. The session keeps
  // the loop.
  transport::EventLoop& loop = loop_;
  StartOn(*visit->session(), call, request, size);
  loop.EnsureRun();
}

void Endpoint::FailUnfit(const ClientSession& session, ClientCall& call, size_t size) {
  RefuseLater(call, CheckFits(call, size, session), CallPhase::kQueue);
}

// Queues a call, and has the loop see to it that it can be sent.
void Endpoint::Wait(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) {
  // Once the call is in the queue it may end, and its callback may destroy the channel.
  const std::shared_ptr<Endpoint> self = shared_from_this();
  absl::Status status;
  // Before the work of encoding; the answer may be another below. What may be given back needs its request.
  if (!watched_) {
    transport::MutexLock lock(mutex_);
    status = CheckMayWait(call, size);
  }
  if (!status.ok()) return RefuseLater(call, std::move(status), PhaseOfWaiting());
  KeepRequest(call, request, size, loop_.blocks().pool());
  bool elsewhere;
  {
    transport::MutexLock lock(mutex_);
    elsewhere = watched_ && state_ != State::kReady;
    if (!elsewhere) status = CheckMayWait(call, size);
    if (status.ok() && !elsewhere) Remember(call, /*at_front=*/false);
  }
  if (!status.ok()) return RefuseLater(call, std::move(status), PhaseOfWaiting());
  if (elsewhere) return ReturnLater(call);
  PostToLoop(&Endpoint::Pump);
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

absl::Status Endpoint::CheckMayWait(const ClientCall& call, size_t size) {
  if (state_ == State::kClosed) return last_error_;
  const bool failed = state_ == State::kBackoff && !turned_away_;
  if (failed && !call.wait_for_ready && loop_.clock().Now() < retry_at_) return last_error_;
  if (waiting_.size() >= options_.max_waiting_calls) {
    return absl::ResourceExhaustedError(
        absl::StrCat(waiting_.size(), " calls wait to be sent, limit is ", options_.max_waiting_calls));
  }
  if (!waiting_.empty() && waiting_bytes_ + size > options_.max_waiting_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        waiting_bytes_ + size, " bytes of requests wait to be sent, limit is ", options_.max_waiting_bytes));
  }
  return absl::OkStatus();
}

bool Endpoint::has_calls() {
  transport::MutexLock lock(mutex_);
  if (has_failures() || !waiting_.empty()) return true;
  if (loop_.InLoop()) {
    const std::shared_ptr<ClientSession>& session = greeting_ != nullptr ? greeting_ : ready_session_;
    return session != nullptr && session->has_calls();
  }
  // Of those of the loop's own session nobody else knows.
  if (session_ == nullptr) return state_ == State::kReady || state_ == State::kGreeting;
  return session_->has_calls();
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

// ---------------------------------------------------------------- The loop: sending

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

// Does what the waiting calls need next.
void Endpoint::Pump() {
  loop_.AssertInLoop();
  ShareIfWanted();
  EndExpired();
  State state;
  bool wanted;
  {
    transport::MutexLock lock(mutex_);
    state = state_;
    wanted = !waiting_.empty() || keep_connected_;
    if (state == State::kBackoff && loop_.now() >= retry_at_) state = State::kIdle;
  }
  if (wanted && state == State::kIdle) Connect();
  if (wanted && state == State::kGreeting) SendEarly();
  if (wanted && state == State::kReady) SendWaiting();
  ArmTimer();
}

// Sends those waiting calls whose requests need not wait for the server's SETTINGS.
void Endpoint::SendEarly() {
  const std::shared_ptr<ClientSession> session = greeting_;
  if (session == nullptr) return;
  std::vector<ClientCall*> early;
  {
    transport::MutexLock lock(mutex_);
    if (waiting_early_ == 0) return;
    for (ClientCall* call : waiting_) {
      if (MayBeEarly(*call) && CheckFits(*call, call->request_size, *session).ok()) early.push_back(call);
    }
    for (ClientCall* call : early) Forget(*call);
  }
  // What cannot be sent waits on, in order.
  auto next = early.begin();
  while (next != early.end() && session->StartWaiting(**next) == ClientSession::Started::kYes) ++next;
  transport::MutexLock lock(mutex_);
  for (auto call = early.end(); call != next;) Remember(**--call, /*at_front=*/true);
}

void Endpoint::SendWaiting() {
  for (;;) {
    ClientCall* call;
    std::shared_ptr<ClientSession> session;
    {
      transport::MutexLock lock(mutex_);
      if (waiting_.empty() || ready_session_ == nullptr) return;
      call = waiting_.front();
      session = ready_session_;
      Forget(*call);
    }
    if (absl::Status fits = CheckFits(*call, call->request_size, *session); !fits.ok()) {
      EndWaited(*call, std::move(fits));
      continue;
    }
    if (session->StartWaiting(*call) == ClientSession::Started::kYes) continue;
    transport::MutexLock lock(mutex_);
    Remember(*call, /*at_front=*/true);
    return;
  }
}

void Endpoint::Remember(ClientCall& call, bool at_front) {
  waiting_.insert(at_front ? waiting_.begin() : waiting_.end(), &call);
  has_waiting_.store(true, std::memory_order_relaxed);
  waiting_bytes_ += call.request_size;
  if (MayBeEarly(call)) ++waiting_early_;
  deadlines_.Add(call);
}

// Takes a call out of the queue, if it is there. O(1) for the first.
bool Endpoint::Forget(ClientCall& call) {
  const auto found = std::find(waiting_.begin(), waiting_.end(), &call);
  if (found == waiting_.end()) return false;
  waiting_.erase(found);
  if (MayBeEarly(call)) --waiting_early_;
  has_waiting_.store(!waiting_.empty(), std::memory_order_relaxed);
  waiting_bytes_ -= call.request_size;
  deadlines_.Remove(call);
  return true;
}

void Endpoint::OnSlotFree() { PostToLoop(&Endpoint::Pump); }

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

// ---------------------------------------------------------------- The loop: time, and the end

void Endpoint::OnTimer() {
  const std::shared_ptr<Endpoint> self = shared_from_this();
  Pump();
}

void Endpoint::EndExpired() {
  for (;;) {
    ClientCall* call;
    absl::Status why;
    {
      transport::MutexLock lock(mutex_);
      call = deadlines_.TakeDue(loop_.now());
      if (call == nullptr) return;
      Forget(*call);
      why = state_ == State::kReady      ? absl::UnavailableError("every stream of the connection is in use")
            : state_ == State::kGreeting ? absl::UnavailableError("the server has not sent its settings yet")
                                         : last_error_;
    }
    EndWaited(*call,
              transport::WithErrorNumber(
                  absl::DeadlineExceededError(absl::StrCat(
                      "the deadline of ", call->method->full_name, " passed before it could be sent",
                      why.ok() ? "" : absl::StrCat(": ", std::string(why.message())), HistoryOf(*call))),
                  transport::ErrorNumberOf(why)));
  }
}

// Whether the call was waiting.
bool Endpoint::EndWaiting(ClientCall& call, absl::Status why) {
  {
    transport::MutexLock lock(mutex_);
    if (!Forget(call)) return false;
  }
  EndWaited(call, std::move(why));
  return true;
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

// Wakes the loop for the next deadline or attempt to connect.
void Endpoint::ArmTimer() {
  Instant wake_at;
  {
    transport::MutexLock lock(mutex_);
    wake_at = deadlines_.wake_at();
    if (state_ == State::kBackoff && (!waiting_.empty() || keep_connected_))
      wake_at = std::min(wake_at, retry_at_);
  }
  if (wake_at == Instant::Infinite()) {
    loop_.timers().Cancel(timer_);
  } else {
    loop_.timers().Arm(timer_, wake_at);
  }
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
