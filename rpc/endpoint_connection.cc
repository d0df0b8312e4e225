// How an endpoint connects, and what becomes of its calls when a connection does not take them.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/resend.h"
#include "ferry/rpc/unanswered.h"
#include "ferry/transport/error_number.h"

namespace ferry {
namespace {

// In a row; further ones make no difference.
constexpr int kMostFailures = 30;

// UNAVAILABLE for the reason `why`, and with what is to be said beyond it.
absl::Status Unavailable(const absl::Status& why, const std::string& more = "") {
  return transport::WithErrorNumber(absl::UnavailableError(absl::StrCat(std::string(why.message()), more)),
                                    transport::ErrorNumberOf(why));
}

}  // namespace

// Ends a call that was given back, and is not to be sent again.
void Endpoint::EndReturned(ClientCall& call, absl::Status why) {
  EndUnanswered(call, {.phase = CallPhase::kQueue, .peer = options_.name}, std::move(why));
}

// Ends a call that waited.
void Endpoint::EndWaited(ClientCall& call, absl::Status why) {
  EndUnanswered(call, {.phase = PhaseOfWaiting(), .peer = options_.name}, std::move(why));
}

// What calls wait for.
CallPhase Endpoint::PhaseOfWaiting() {
  transport::MutexLock lock(mutex_);
  switch (state_) {
    case State::kIdle:
    case State::kConnecting:
      return CallPhase::kConnect;
    case State::kGreeting:
      return CallPhase::kHandshake;
    case State::kReady:
      return CallPhase::kQueue;
    case State::kBackoff:
    case State::kClosed:
      return failed_in_;
  }
  return CallPhase::kQueue;
}

// What is to be said of a call that ends without being sent again.
std::string Endpoint::HistoryOf(const ClientCall& call) {
  if (call.turned_away == 0) return "";
  return absl::StrCat(call.method->idempotent ? "" : ", it was not executed", ", turned away ",
                      call.turned_away, call.turned_away == 1 ? " time" : " times");
}

// Whether too many attempts to connect are made in this process; we try again when it is our turn.
bool Endpoint::MustWaitForTurn() {
  if (options_.attempts == nullptr || std::exchange(attempt_reserved_, false)) return false;
  const absl::Duration wait = options_.attempts->Reserve(loop_.now());
  if (wait <= absl::ZeroDuration()) return false;
  attempt_reserved_ = true;
  transport::MutexLock lock(mutex_);
  state_ = State::kBackoff;
  // Calls need not fail for that, nor is anything won by hurrying.
  turned_away_ = true;
  hurried_ = true;
  retry_at_ = loop_.now() + wait;
  return true;
}

void Endpoint::Connect() {
  if (MustWaitForTurn()) return ArmTimer();
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
  if (!stream.ok()) return OnConnectFailed(stream.status(), CallPhase::kConnect);
  auto session = std::make_shared<ClientSession>(options_.session, loop_, static_cast<Owner&>(*this),
                                                 *std::move(stream));
  sessions_.push_back(session);
  greeting_ = session;
  {
    transport::MutexLock lock(mutex_);
    state_ = State::kGreeting;
  }
  session->Begin();
  Pump();
}

void Endpoint::OnIntroduced(ClientSession& session) {
  loop_.AssertInLoop();
  if (greeting_.get() != &session) return;
  ready_session_ = std::move(greeting_);
  {
    transport::MutexLock lock(mutex_);
    state_ = State::kReady;
    failing_ = false;
    session_ = ready_session_;
  }
  TellWatcher(absl::OkStatus());
  PostToLoop(&Endpoint::Pump);
}

// Gives the calls that wait, unless they can be sent, to a watcher, and tells it of a change.
void Endpoint::TellWatcher(const absl::Status& why) {
  if (!watched_) return;
  std::vector<ClientCall*> returned;
  // Whatever has ended the connection: for calls that were not executed it is just not there.
  const absl::Status unavailable = Unavailable(why);
  {
    transport::MutexLock lock(mutex_);
    if (state_ == State::kClosed) return;
    if (state_ != State::kReady) {
      last_error_ = unavailable;
      returned.assign(waiting_.begin(), waiting_.end());
      for (ClientCall* call : returned) Forget(*call);
    }
  }
  if (!returned.empty()) ReturnCalls(returned, unavailable);
  if (const std::shared_ptr<Watcher> watcher = options_.watcher.lock()) watcher->OnStateChange(*this);
}

void Endpoint::ReturnCalls(const std::vector<ClientCall*>& calls, const absl::Status& why) {
  if (const std::shared_ptr<Watcher> watcher = options_.watcher.lock()) {
    return watcher->OnCallsReturned(calls, why);
  }
  for (ClientCall* call : calls) EndReturned(*call, why);
}

void Endpoint::OnConnectFailed(const absl::Status& why, CallPhase phase) {
  const std::shared_ptr<Endpoint> self = shared_from_this();
  const absl::Duration wait = backoff_.Wait(failures_in_a_row_);
  failures_in_a_row_ = std::min(failures_in_a_row_ + 1, kMostFailures);
  std::vector<ClientCall*> failed;
  {
    transport::MutexLock lock(mutex_);
    if (state_ == State::kClosed) return;
    state_ = State::kBackoff;
    failing_ = true;
    hurried_ = false;
    turned_away_ = false;
    retry_at_ = loop_.now() + wait;
    failed_in_ = phase;
    last_error_ = Unavailable(why);
    for (ClientCall* call : waiting_) {
      // A watcher gets them all.
      if (!call->wait_for_ready && !watched_) failed.push_back(call);
    }
    for (ClientCall* call : failed) Forget(*call);
  }
  for (ClientCall* call : failed) {
    EndUnanswered(*call, {.phase = phase, .peer = options_.name}, Unavailable(why, HistoryOf(*call)));
  }
  TellWatcher(why);
  ArmTimer();
}

// The server has taken a connection, but no calls.
void Endpoint::OnTurnedAway(const absl::Status& why) {
  const absl::Duration wait =
      failures_in_a_row_ == 0 ? absl::ZeroDuration() : backoff_.Wait(failures_in_a_row_ - 1);
  failures_in_a_row_ = std::min(failures_in_a_row_ + 1, kMostFailures);
  std::vector<ClientCall*> failed;
  {
    transport::MutexLock lock(mutex_);
    state_ = State::kBackoff;
    failing_ = failing_ || failures_in_a_row_ > 1;
    hurried_ = false;
    // One that goes on so is no better than one that cannot be connected to.
    turned_away_ = failures_in_a_row_ < kMaxTurnedAway;
    failed_in_ = CallPhase::kHandshake;
    retry_at_ = loop_.now() + wait;
    last_error_ = Unavailable(why);
    for (ClientCall* call : waiting_) {
      ++call->turned_away;
      const bool often = call->turned_away >= kMaxTurnedAway || !turned_away_;
      if (!call->wait_for_ready && !watched_ && often) failed.push_back(call);
    }
    for (ClientCall* call : failed) Forget(*call);
  }
  for (ClientCall* call : failed) {
    EndUnanswered(
        *call, {.phase = CallPhase::kHandshake, .peer = options_.name},
        Unavailable(why, absl::StrCat(HistoryOf(*call), ", limit is ", kMaxTurnedAway, " in a row")));
  }
  TellWatcher(why);
  PostToLoop(&Endpoint::Pump);
}

void Endpoint::OnNoMoreCalls(ClientSession& session, const absl::Status& why) {
  loop_.AssertInLoop();
  {
    transport::MutexLock lock(mutex_);
    if (greeting_.get() != &session && session_.get() != &session && ready_session_.get() != &session) return;
    session_ = nullptr;
    ready_session_ = nullptr;
    greeting_ = nullptr;
    if (state_ == State::kClosed) return;
    state_ = State::kIdle;
  }
  const bool has_lasted = session.introduced() && loop_.now() - session.began() >= kLasting;
  if (session.answered() || has_lasted) {
    failures_in_a_row_ = 0;
    TellWatcher(why);
    return PostToLoop(&Endpoint::Pump);
  }
  if (session.drained() || (!session.introduced() && !session.broken())) return OnTurnedAway(why);
  // A server that soon ends each connection and never answers a call is no better than one that cannot be
  // connected to.
  OnConnectFailed(why, session.introduced() ? CallPhase::kQueue : CallPhase::kHandshake);
}

void Endpoint::OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) {
  loop_.AssertInLoop();
  const std::shared_ptr<Endpoint> self = shared_from_this();
  std::vector<std::pair<ClientCall*, absl::Status>> ended;
  if (watched_) {
    std::vector<ClientCall*> returned;
    returned.reserve(calls.size());
    for (ClientCall* call : calls) {
      absl::Status status = PrepareAgain(*call, why);
      if (status.ok()) {
        returned.push_back(call);
      } else {
        ended.emplace_back(call, std::move(status));
      }
    }
    for (auto& [call, status] : ended) EndReturned(*call, std::move(status));
    if (!returned.empty()) ReturnCalls(returned, why);
    return;
  }
  // The first is to be the first of all that wait.
  for (auto next = calls.rbegin(); next != calls.rend(); ++next) {
    ClientCall& call = **next;
    absl::Status status = PrepareAgain(call, why);
    if (status.ok()) SetAttempt(call, AttemptOf(call.head) + 1);
    transport::MutexLock lock(mutex_);
    if (status.ok()) status = CheckMayWaitAgain(call, why);
    if (status.ok()) {
      Remember(call, /*at_front=*/true);
    } else {
      ended.emplace_back(&call, std::move(status));
    }
  }
  for (auto next = ended.rbegin(); next != ended.rend(); ++next) {
    EndReturned(*next->first, std::move(next->second));
  }
  PostToLoop(&Endpoint::Pump);
}

// Makes a call one that waits to be sent. An error, which says `why` it would have been, if that cannot be.
absl::Status Endpoint::PrepareAgain(ClientCall& call, const absl::Status& why) {
  ++call.turned_away;
  if (!call.wait_for_ready && call.turned_away >= kMaxTurnedAway) {
    return transport::WithErrorNumber(
        absl::Status(why.code(), absl::StrCat(std::string(why.message()), ", turned away ", call.turned_away,
                                              " times, limit is ", kMaxTurnedAway)),
        transport::ErrorNumberOf(why));
  }
  return PrepareToSendAgain(call, why, loop_.blocks().pool());
}

// The calls were admitted once: how many wait does not matter.
absl::Status Endpoint::CheckMayWaitAgain(const ClientCall& call, const absl::Status& why) {
  if (state_ == State::kClosed) return last_error_;
  if (state_ == State::kBackoff && !turned_away_ && !call.wait_for_ready) return why;
  return absl::OkStatus();
}

void Endpoint::OnSessionClosed(ClientSession& session) {
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& s) { return s.get() == &session; });
  // Something of the session's is on the stack: it lives on to the end of this task.
  loop_.Post([self = shared_from_this(), closed = std::move(*found)] {});
  sessions_.erase(found);
}

}  // namespace ferry
