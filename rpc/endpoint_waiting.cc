// The calls of an endpoint that wait to be sent.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/resend.h"
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

}  // namespace ferry
