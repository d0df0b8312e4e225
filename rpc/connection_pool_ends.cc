// How the calls of a pool end.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "ferry/rpc/connection_pool.h"
#include "ferry/rpc/unanswered.h"

namespace ferry {

// The call is on its connection no more.
void ConnectionPool::Release(ClientCall& call) {
  const std::shared_ptr<PooledConnection> connection = std::move(call.routing->connection);
  if (connection == nullptr) return;
  bool leaving;
  {
    transport::MutexLock lock(mutex_);
    if (!connection->leaving) --in_flight_;
    if (--connection->in_flight > 0 || !closed_.ok()) return;
    connection->idle_since = loop_.now();
    leaving = connection->leaving;
  }
  if (leaving) return SettleLater();
  if (idle_timeout_ == absl::InfiniteDuration()) return;
  const transport::Instant due = loop_.now() + idle_timeout_;
  if (!timer_.armed() || timer_.due() > due) loop_.timers().Arm(timer_, due);
}

void ConnectionPool::OnAttemptEnd(ClientCall& call, absl::Status status) {
  loop_.AssertInLoop();
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  Release(call);
  Finish(call, std::move(status));
  if (parked_.waiting() > 0) Pump();
}

void ConnectionPool::Finish(ClientCall& call, absl::Status status) {
  call.router = std::exchange(call.routing->outside_pool, nullptr);
  calls_.fetch_sub(1, std::memory_order_release);
  call.End(std::move(status));
}

// Ends a call that is on no connection.
void ConnectionPool::EndWaited(ClientCall& call, absl::Status why) {
  EndWaited(call, PhaseOfWaiting(), std::move(why));
}

// The same, if it had come that far.
void ConnectionPool::EndWaited(ClientCall& call, CallPhase phase, absl::Status why) {
  call.router = std::exchange(call.routing->outside_pool, nullptr);
  calls_.fetch_sub(1, std::memory_order_release);
  const bool sent = std::exchange(call.routing->given_back, false);
  EndUnanswered(call, {.phase = phase, .peer = options_.endpoint.name, .sent = sent}, std::move(why));
}

// What calls wait for.
CallPhase ConnectionPool::PhaseOfWaiting() const {
  transport::MutexLock lock(mutex_);
  if (!closed_.ok()) return closed_in_;
  if (has_usable()) return CallPhase::kQueue;
  // Only one is attempted.
  const auto next = std::find_if(connections_.begin(), connections_.end(),
                                 [](const auto& connection) { return !connection->leaving; });
  return next == connections_.end() ? CallPhase::kConnect : (*next)->endpoint->PhaseOfWaiting();
}

void ConnectionPool::CancelCall(ClientCall& call, absl::Status why) {
  loop_.AssertInLoop();
  if (parked_.Take(call)) {
    Unpark(call);
    return EndWaited(call, std::move(why));
  }
  if (call.routing == nullptr) return;
  // It may be on its way here, or back from an endpoint.
  call.routing->cancelled = why;
  if (const std::shared_ptr<PooledConnection> connection = call.routing->connection; connection != nullptr) {
    connection->endpoint->CancelCall(call, std::move(why));
  }
}

void ConnectionPool::OnConnectionReturned(PooledConnection& connection, const std::vector<ClientCall*>& calls,
                                          const absl::Status& why) {
  loop_.AssertInLoop();
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  bool closed;
  {
    transport::MutexLock lock(mutex_);
    // None of them is to be sent here again meanwhile.
    connection.usable = connection.usable && connection.endpoint->ready();
    closed = !closed_.ok();
  }
  std::vector<ClientCall*> left;
  std::vector<ClientCall*> cancelled;
  for (ClientCall* call : calls) {
    Release(*call);
    call->routing->given_back = true;
    (call->routing->cancelled.ok() ? left : cancelled).push_back(call);
  }
  if ((watched_ && !ready()) || closed) {
    ReturnCalls(left, why);
  } else {
    // The first is to be the first of all that wait.
    for (auto next = left.rbegin(); next != left.rend(); ++next) {
      parked_.AddWaitingFirst(**next);
      transport::MutexLock lock(mutex_);
      CountWaiting((*next)->request_size);
    }
    SettleLater();
  }
  for (ClientCall* call : cancelled) EndWaited(*call, CallPhase::kQueue, call->routing->cancelled);
}

void ConnectionPool::Close(const absl::Status& why) {
  loop_.AssertInLoop();
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  Connections connections;
  std::vector<ClientCall*> waiting;
  const CallPhase phase = PhaseOfWaiting();
  {
    transport::MutexLock lock(mutex_);
    if (!closed_.ok()) return;
    closed_ = why;
    closed_in_ = phase;
    last_error_ = why;
    connections.swap(connections_);
    active_ = 0;
  }
  loop_.timers().Cancel(timer_);
  waiting = parked_.TakeAll();
  for (const ClientCall* call : waiting) Unpark(*call);
  for (const std::shared_ptr<PooledConnection>& connection : connections) connection->endpoint->Close(why);
  for (ClientCall* call : waiting) EndWaited(*call, phase, why);
  // Something of theirs may be on the stack.
  loop_.PostToOwner([connections = std::move(connections)] {});
}

}  // namespace ferry
