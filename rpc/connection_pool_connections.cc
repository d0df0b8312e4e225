// The connections of a pool: how many there are, and which of them calls may go to.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/random/distributions.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/connection_pool.h"
#include "ferry/transport/error_number.h"

namespace ferry {

using transport::Instant;

// ---------------------------------------------------------------- What becomes of them

void ConnectionPool::OnConnectionChange(PooledConnection& connection) {
  loop_.AssertInLoop();
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  const bool was_ready = ready();
  connection.lost = !connection.endpoint->ready();
  if (connection.lost) {
    OnLost(connection);
  } else {
    OnReady(connection);
  }
  if (!closed().ok()) return;
  SettleLater();
  const bool is_ready = ready();
  if (!watched_ || (was_ready && is_ready)) return;
  if (const std::shared_ptr<Watcher> watcher = options_.endpoint.watcher.lock())
    watcher->OnStateChange(*this);
}

void ConnectionPool::OnReady(PooledConnection& connection) {
  const PoolOptions& pool = options_.pool;
  const size_t most_calls = pool.exclusive ? 1 : connection.endpoint->max_calls();
  if (pool.max_age < absl::InfiniteDuration()) {
    const double share = 1 - absl::Uniform(absl::IntervalClosed, random_, 0.0, pool.max_age_jitter);
    connection.expires_at = loop_.now() + pool.max_age * share;
  }
  {
    transport::MutexLock lock(mutex_);
    connection.usable = !connection.leaving;
    connection.most_calls = most_calls;
    connection.idle_since = loop_.now();
  }
  for (const std::shared_ptr<PooledConnection>& old : All()) {
    if (old->successor == &connection) Leave(*old);
  }
}

void ConnectionPool::OnLost(PooledConnection& connection) {
  const absl::Status why = connection.endpoint->last_error();
  {
    transport::MutexLock lock(mutex_);
    connection.usable = false;
    last_error_ = why;
  }
  if (connection.successor != nullptr) Leave(connection);
  if (!watched_ && connection.endpoint->turned_away() && !ready()) EndTurnedAway(why);
}

// Counts for those that wait that they were turned away, and ends those for which that was once too often.
void ConnectionPool::EndTurnedAway(const absl::Status& why) {
  const std::vector<ClientCall*> ended = parked_.TakeWaitingIf([](ClientCall* call) {
    ++call->turned_away;
    return !call->wait_for_ready && call->turned_away >= Endpoint::kMaxTurnedAway;
  });
  for (const ClientCall* call : ended) Unpark(*call);
  for (ClientCall* call : ended) {
    EndWaited(*call, CallPhase::kHandshake,
              transport::WithErrorNumber(absl::UnavailableError(absl::StrCat(
                                             std::string(why.message()), ", turned away ", call->turned_away,
                                             " times, limit is ", Endpoint::kMaxTurnedAway)),
                                         transport::ErrorNumberOf(why)));
  }
}

// ---------------------------------------------------------------- Which there are

ConnectionPool::Connections ConnectionPool::All() const {
  transport::MutexLock lock(mutex_);
  return connections_;
}

// Those that will not leave or be replaced.
ConnectionPool::Connections ConnectionPool::Active() const {
  Connections active = All();
  std::erase_if(active, [](const auto& c) { return c->leaving || c->successor != nullptr; });
  return active;
}

bool ConnectionPool::IsSuccessor(const PooledConnection& connection) const {
  const Connections all = All();
  return std::any_of(all.begin(), all.end(), [&](const auto& old) { return old->successor == &connection; });
}

void ConnectionPool::CountActive() {
  const size_t active = Active().size();
  transport::MutexLock lock(mutex_);
  active_ = active;
}

// How many there are to be.
size_t ConnectionPool::Wanted() const {
  transport::MutexLock lock(mutex_);
  const size_t needed = NeededFor(in_flight_ + waiting_calls_);
  return has_usable() ? needed : std::min<size_t>(needed, 1);
}

// Makes one more.
const PooledConnection* ConnectionPool::Add() {
  auto connection = std::make_shared<PooledConnection>(static_cast<PooledConnection::Owner&>(*this));
  Endpoint::Options options = options_.endpoint;
  options.watcher = connection;
  options.keep_alive = shared_from_this();
  // What waits in an endpoint are no more than the calls that the connection may have.
  options.max_waiting_calls = std::numeric_limits<size_t>::max();
  options.max_waiting_bytes = std::numeric_limits<size_t>::max();
  connection->endpoint = Endpoint::Create(options, loop_, connector_);
  {
    transport::MutexLock lock(mutex_);
    connections_.push_back(connection);
  }
  CountActive();
  connection->endpoint->KeepConnected();
  return connection.get();
}

// It gets no new calls, ends those that it has, and is not made again if it is lost.
void ConnectionPool::Leave(PooledConnection& connection) {
  {
    transport::MutexLock lock(mutex_);
    if (!std::exchange(connection.leaving, true)) in_flight_ -= connection.in_flight;
    connection.usable = false;
  }
  connection.successor = nullptr;
  connection.endpoint->LetConnectionGo();
  CountActive();
}

// Closes those that leave and have no calls any more.
void ConnectionPool::CloseLeft() {
  Connections left;
  {
    transport::MutexLock lock(mutex_);
    const auto first = std::stable_partition(connections_.begin(), connections_.end(),
                                             [](const auto& c) { return !c->leaving || c->in_flight > 0; });
    left.assign(first, connections_.end());
    connections_.erase(first, connections_.end());
  }
  if (left.empty()) return;
  const absl::Status why = absl::UnavailableError("the connection was closed, it had no calls");
  for (const std::shared_ptr<PooledConnection>& connection : left) connection->endpoint->Close(why);
  loop_.PostToOwner([left = std::move(left)] {});
}

// Makes connections that are wanted, and lets go of lost ones that are not.
void ConnectionPool::Resize() {
  const size_t wanted = Wanted();
  Connections active = Active();
  size_t left = active.size();
  for (const std::shared_ptr<PooledConnection>& connection : active) {
    // The last one stays, with its backoff: another would not know that it has to wait.
    if (!connection->lost || left <= std::max<size_t>(wanted, 1) || IsSuccessor(*connection)) continue;
    Leave(*connection);
    --left;
  }
  for (const std::shared_ptr<PooledConnection>& connection : active) {
    if (connection->leaving || !connection->lost) continue;
    if (wanted > 0 || IsSuccessor(*connection)) {
      connection->endpoint->KeepConnected();
    } else {
      connection->endpoint->LetConnectionGo();
    }
  }
  for (; left < wanted; ++left) Add();
}

// ---------------------------------------------------------------- Time

void ConnectionPool::LeaveIdle() {
  if (idle_timeout_ == absl::InfiniteDuration()) return;
  const Connections active = Active();
  const size_t wanted = Wanted();
  size_t left = active.size();
  // Calls go to the first.
  for (auto next = active.rbegin(); next != active.rend() && left > wanted; ++next) {
    if (!IsIdle(**next)) continue;
    // A call that another thread sends to it just now still ends there.
    Leave(**next);
    --left;
  }
}

// Whether it has had no calls for so long that it may be closed.
bool ConnectionPool::IsIdle(const PooledConnection& connection) const {
  transport::MutexLock lock(mutex_);
  const bool idle = connection.usable && connection.in_flight == 0;
  return idle && loop_.now() >= connection.idle_since + idle_timeout_;
}

void ConnectionPool::ReplaceAged() {
  for (const std::shared_ptr<PooledConnection>& connection : Active()) {
    if (connection->lost || loop_.now() < connection->expires_at) continue;
    connection->successor = Add();
    CountActive();
  }
}

void ConnectionPool::ConnectSoon() {
  loop_.AssertInLoop();
  for (const std::shared_ptr<PooledConnection>& connection : All()) connection->endpoint->ConnectSoon();
}

absl::Status ConnectionPool::closed() const {
  transport::MutexLock lock(mutex_);
  return closed_;
}

// Does what there is to do.
void ConnectionPool::Settle() {
  loop_.AssertInLoop();
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  {
    transport::MutexLock lock(mutex_);
    growing_ = false;
  }
  if (const absl::Status why = closed(); !why.ok()) {
    const std::vector<ClientCall*> late = parked_.TakeAll();
    for (const ClientCall* call : late) Unpark(*call);
    return ReturnCalls(late, why);
  }
  EndHopeless();
  if (!closed().ok()) return;
  Resize();
  CloseLeft();
  Pump();
  ArmTimer();
}

void ConnectionPool::SettleLater() {
  if (std::exchange(settle_posted_, true)) return;
  loop_.Post([self = shared_from_this()] {
    self->settle_posted_ = false;
    self->Settle();
  });
}

void ConnectionPool::OnTimer() {
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  while (ClientCall* const call = parked_.TakeExpired(loop_.now())) {
    Unpark(*call);
    const absl::Status why = ready() ? absl::UnavailableError("every connection is in use") : last_error();
    EndWaited(*call, transport::WithErrorNumber(
                         absl::DeadlineExceededError(absl::StrCat(
                             "the deadline of ", call->method->full_name, " passed before it could be sent",
                             why.ok() ? "" : ": ", std::string(why.message()))),
                         transport::ErrorNumberOf(why)));
  }
  if (closed().ok()) {
    LeaveIdle();
    ReplaceAged();
  }
  Settle();
}

// Wakes the loop for the next deadline, or for a connection that will have been idle or there for too long.
void ConnectionPool::ArmTimer() {
  if (!closed().ok()) return;
  Instant due = parked_.next_due();
  const Connections active = Active();
  const bool may_leave = idle_timeout_ != absl::InfiniteDuration() && active.size() > min_connections_;
  // Those that are wanted just now are looked at again later.
  const bool wanted = may_leave && active.size() <= Wanted();
  for (const std::shared_ptr<PooledConnection>& connection : active) {
    if (connection->lost) continue;
    due = std::min(due, connection->expires_at);
    if (!may_leave) continue;
    transport::MutexLock lock(mutex_);
    if (!connection->usable || connection->in_flight > 0) continue;
    due = std::min(due, (wanted ? loop_.now() : connection->idle_since) + idle_timeout_);
  }
  if (due == Instant::Infinite()) {
    loop_.timers().Cancel(timer_);
  } else {
    loop_.timers().Arm(timer_, due);
  }
}

void ConnectionPool::AppendConnections(std::vector<ConnectionStats>& to) {
  loop_.AssertInLoop();
  for (const std::shared_ptr<PooledConnection>& connection : All()) {
    const size_t before = to.size();
    connection->endpoint->AppendConnections(to);
    if (!connection->leaving) continue;
    for (size_t i = before; i < to.size(); ++i) to[i].state = ConnectionStats::State::kDraining;
  }
}

}  // namespace ferry
