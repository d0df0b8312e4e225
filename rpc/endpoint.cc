#include "ferry/rpc/endpoint.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/random/distributions.h"
#include "absl/strings/str_cat.h"

namespace ferry {

using transport::Instant;

namespace {

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
      random_(options.seed != 0 ? options.seed : std::random_device()()),
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
  FailLater(call, CheckFits(call, size, session));
}

// Queues a call, and has the loop see to it that it can be sent.
void Endpoint::Wait(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) {
  // Once the call is in the queue it may end, and its callback may destroy the channel.
  const std::shared_ptr<Endpoint> self = shared_from_this();
  absl::Status status;
  {
    // Before the work of encoding; the answer may be another below.
    transport::MutexLock lock(mutex_);
    status = CheckMayWait(call, size);
  }
  if (!status.ok()) return FailLater(call, std::move(status));
  if (size > 0) {
    call.waiting_request = loop_.blocks().pool().Allocate(size);
    request.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(call.waiting_request.data()));
  }
  call.waiting_request_size = size;
  {
    transport::MutexLock lock(mutex_);
    status = CheckMayWait(call, size);
    if (status.ok()) {
      waiting_.push_back(&call);
      has_waiting_.store(true, std::memory_order_relaxed);
      waiting_bytes_ += size;
      deadlines_.Add(call);
    }
  }
  if (!status.ok()) return FailLater(call, std::move(status));
  PostToLoop(&Endpoint::Pump);
}

absl::Status Endpoint::CheckMayWait(const ClientCall& call, size_t size) {
  if (state_ == State::kClosed) return last_error_;
  if (state_ == State::kBackoff && !call.wait_for_ready && loop_.clock().Now() < retry_at_)
    return last_error_;
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
  if (loop_.InLoop()) return ready_session_ != nullptr && ready_session_->has_calls();
  // Of those of the loop's own session nobody else knows.
  if (session_ == nullptr) return state_ == State::kReady;
  return session_->has_calls();
}

void Endpoint::FailLater(ClientCall& call, absl::Status why) {
  failures_to_tell_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call, why = std::move(why)]() mutable {
    call.waiting_request = transport::Block();
    call.End(std::move(why));
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
    wanted = !waiting_.empty();
    if (state == State::kBackoff && loop_.now() >= retry_at_) state = State::kIdle;
  }
  if (wanted && state == State::kIdle) Connect();
  if (wanted && state == State::kReady) SendWaiting();
  ArmTimer();
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
    if (absl::Status fits = CheckFits(*call, call->waiting_request_size, *session); !fits.ok()) {
      call->waiting_request = transport::Block();
      call->End(std::move(fits));
      continue;
    }
    if (session->StartWaiting(*call) == ClientSession::Started::kYes) continue;
    transport::MutexLock lock(mutex_);
    waiting_.push_front(call);
    has_waiting_.store(true, std::memory_order_relaxed);
    waiting_bytes_ += call->waiting_request_size;
    deadlines_.Add(*call);
    return;
  }
}

// Takes a call out of the queue. O(1) for the first.
void Endpoint::Forget(ClientCall& call) {
  waiting_.erase(std::find(waiting_.begin(), waiting_.end(), &call));
  has_waiting_.store(!waiting_.empty(), std::memory_order_relaxed);
  waiting_bytes_ -= call.waiting_request_size;
  deadlines_.Remove(call);
}

void Endpoint::OnSlotFree() { PostToLoop(&Endpoint::Pump); }

// ---------------------------------------------------------------- The loop: connecting

void Endpoint::Connect() {
  {
    transport::MutexLock lock(mutex_);
    state_ = State::kConnecting;
  }
  attempt_ = connector_->Connect(loop_, loop_.now() + options_.connect_timeout,
                                 [this](absl::StatusOr<std::unique_ptr<transport::ByteStream>> stream) {
                                   OnConnected(std::move(stream));
                                 });
}

void Endpoint::OnConnected(absl::StatusOr<std::unique_ptr<transport::ByteStream>> stream) {
  loop_.AssertInLoop();
  const std::shared_ptr<Endpoint> self = shared_from_this();
  if (!stream.ok()) return OnConnectFailed(stream.status());
  auto session = std::make_shared<ClientSession>(options_.session, loop_, static_cast<Owner&>(*this),
                                                 *std::move(stream));
  sessions_.push_back(session);
  {
    transport::MutexLock lock(mutex_);
    session_ = session;
  }
  // Before others may send: the preface and SETTINGS come first.
  session->Begin();
  {
    transport::MutexLock lock(mutex_);
    if (session_ == session) {
      state_ = State::kReady;
      ready_session_ = session;
    }
  }
  Pump();
}

void Endpoint::OnConnectFailed(const absl::Status& why) {
  const std::shared_ptr<Endpoint> self = shared_from_this();
  const double bound = std::min(absl::ToDoubleSeconds(options_.max_backoff),
                                absl::ToDoubleSeconds(options_.min_backoff) * std::exp2(failures_in_a_row_));
  failures_in_a_row_ = std::min(failures_in_a_row_ + 1, 30);
  const absl::Duration wait = absl::Seconds(absl::Uniform(random_, 0.0, bound));
  std::vector<ClientCall*> failed;
  {
    transport::MutexLock lock(mutex_);
    if (state_ == State::kClosed) return;
    state_ = State::kBackoff;
    retry_at_ = loop_.now() + wait;
    last_error_ = absl::UnavailableError(why.message());
    for (ClientCall* call : waiting_) {
      if (!call->wait_for_ready) failed.push_back(call);
    }
    for (ClientCall* call : failed) Forget(*call);
  }
  for (ClientCall* call : failed) {
    call->waiting_request = transport::Block();
    call->End(absl::UnavailableError(why.message()));
  }
  ArmTimer();
}

void Endpoint::OnNoMoreCalls(ClientSession& session, const absl::Status& why) {
  loop_.AssertInLoop();
  {
    transport::MutexLock lock(mutex_);
    if (session_.get() != &session && ready_session_.get() != &session) return;
    session_ = nullptr;
    ready_session_ = nullptr;
    if (state_ == State::kClosed) return;
    state_ = State::kIdle;
  }
  // A server that never answers a call is no better than one that cannot be connected to, unless it sends us
  // elsewhere.
  if (!session.answered() && !session.drained()) return OnConnectFailed(why);
  failures_in_a_row_ = 0;
  PostToLoop(&Endpoint::Pump);
}

void Endpoint::OnSessionClosed(ClientSession& session) {
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& s) { return s.get() == &session; });
  // Something of the session's is on the stack: it lives on to the end of this task.
  loop_.Post([self = shared_from_this(), closed = std::move(*found)] {});
  sessions_.erase(found);
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
      why = state_ == State::kReady ? absl::UnavailableError("every stream of the connection is in use")
                                    : last_error_;
    }
    call->waiting_request = transport::Block();
    call->End(absl::DeadlineExceededError(
        absl::StrCat("the deadline of ", call->method->full_name, " passed before it could be sent",
                     why.ok() ? "" : absl::StrCat(": ", std::string(why.message())))));
  }
}

// Whether the call was waiting.
bool Endpoint::EndWaiting(ClientCall& call, absl::Status why) {
  {
    transport::MutexLock lock(mutex_);
    if (std::find(waiting_.begin(), waiting_.end(), &call) == waiting_.end()) return false;
    Forget(call);
  }
  call.waiting_request = transport::Block();
  call.End(std::move(why));
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
    if (state_ == State::kBackoff && !waiting_.empty()) wake_at = std::min(wake_at, retry_at_);
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
  {
    transport::MutexLock lock(mutex_);
    state_ = State::kClosed;
    ready_session_ = nullptr;
    last_error_ = why;
    waiting.swap(waiting_);
    has_waiting_.store(false, std::memory_order_relaxed);
    waiting_bytes_ = 0;
    for (ClientCall* call : waiting) deadlines_.Remove(*call);
  }
  attempt_.reset();
  loop_.timers().Cancel(timer_);
  // Closing one takes it out of sessions_.
  for (const std::shared_ptr<ClientSession>& session : std::vector(sessions_)) session->Close(why);
  for (ClientCall* call : waiting) {
    call->waiting_request = transport::Block();
    call->End(why);
  }
}

void Endpoint::PostToLoop(void (Endpoint::*task)()) {
  loop_.Post([self = shared_from_this(), task] { ((*self).*task)(); });
}

}  // namespace ferry
