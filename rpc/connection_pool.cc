#include "ferry/rpc/connection_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/resend.h"
#include "ferry/rpc/unanswered.h"
#include "ferry/rpc/wire.h"

namespace ferry {

std::shared_ptr<ConnectionPool> ConnectionPool::Create(const Options& options, transport::EventLoop& loop,
                                                       std::unique_ptr<transport::Connector> connector) {
  return std::shared_ptr<ConnectionPool>(new ConnectionPool(options, loop, std::move(connector)));
}

ConnectionPool::ConnectionPool(const Options& options, transport::EventLoop& loop,
                               std::unique_ptr<transport::Connector> connector)
    : options_(options),
      min_connections_(options.pool.min_connections.value_or(0)),
      idle_timeout_(options.pool.idle_timeout.value_or(
          options.pool.max_connections > 1 ? absl::Minutes(5) : absl::InfiniteDuration())),
      loop_(loop),
      connector_(std::move(connector)),
      watched_(!options.endpoint.watcher.expired()),
      random_(options.seed != 0 ? options.seed : std::random_device()()),
      timer_([this] { OnTimer(); }) {}

ConnectionPool::~ConnectionPool() = default;

// ---------------------------------------------------------------- Any thread

// Makes the pool the call's router, inside the one that it has.
void ConnectionPool::Enlist(ClientCall& call) {
  if (call.routing == nullptr) {
    call.routing = std::make_unique<CallRouting>();
  } else if (call.router == nullptr) {
    call.routing->Reset();
  }
  call.routing->outside_pool = call.router;
  call.router = this;
  calls_.fetch_add(1, std::memory_order_relaxed);
}

// How many connections it takes for so many calls.
size_t ConnectionPool::NeededFor(size_t calls) const {
  const size_t each = options_.pool.exclusive ? 1 : options_.pool.calls_per_connection;
  const size_t needed = calls / each + (calls % each != 0 ? 1 : 0);
  return std::clamp(needed, min_connections_, options_.pool.max_connections);
}

// A connection that takes one more call: the least busy of the first that the calls need, so that those
// beyond have none and can be closed. Null if there is none.
std::shared_ptr<PooledConnection> ConnectionPool::FindConnection() const {
  if (options_.pool.exclusive && in_flight_ >= options_.pool.max_connections) return nullptr;
  size_t looked_at = 0;
  const size_t needed = NeededFor(in_flight_ + 1);
  const std::shared_ptr<PooledConnection>* best = nullptr;
  for (const std::shared_ptr<PooledConnection>& connection : connections_) {
    if (!connection->usable || connection->in_flight >= connection->most_calls) continue;
    if (best == nullptr || connection->in_flight < (*best)->in_flight) best = &connection;
    if (++looked_at == needed) break;
  }
  return best == nullptr ? nullptr : *best;
}

// The same, and the call is counted on it.
std::shared_ptr<PooledConnection> ConnectionPool::TakeConnection() {
  std::shared_ptr<PooledConnection> connection = FindConnection();
  if (connection == nullptr) return nullptr;
  ++connection->in_flight;
  ++in_flight_;
  return connection;
}

// OK if a request of `size` bytes may wait.
absl::Status ConnectionPool::CheckMayWait(size_t size) const {
  if (absl::Status not_full = CheckNotFull(); !not_full.ok()) return not_full;
  const Endpoint::Options& limits = options_.endpoint;
  if (waiting_calls_ >= limits.max_waiting_calls) {
    return absl::ResourceExhaustedError(
        absl::StrCat(waiting_calls_, " calls wait for a connection, limit is ", limits.max_waiting_calls));
  }
  if (waiting_calls_ > 0 && waiting_bytes_ + size > limits.max_waiting_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(waiting_bytes_ + size,
                                                     " bytes of requests wait for a connection, limit is ",
                                                     limits.max_waiting_bytes));
  }
  return absl::OkStatus();
}

// OK if a call may wait for a connection that is in use.
absl::Status ConnectionPool::CheckNotFull() const {
  if (options_.pool.when_full == PoolOptions::WhenFull::kWait) return absl::OkStatus();
  // A watcher has other places for it.
  if (watched_ && !has_usable()) return absl::OkStatus();
  const size_t most = options_.pool.max_connections;
  if (options_.pool.exclusive) {
    if (in_flight_ + waiting_calls_ < most) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(in_flight_ + waiting_calls_,
                                                     " calls have or wait for a connection each, limit is ",
                                                     most, " connections"));
  }
  const auto full = std::count_if(connections_.begin(), connections_.end(), [](const auto& connection) {
    return connection->usable && connection->in_flight >= connection->most_calls;
  });
  if (static_cast<size_t>(full) < most) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(in_flight_, " calls are in flight on ", full,
                                                   " connections, limit is ", connections_.back()->most_calls,
                                                   " on each of ", most));
}

// Whether this is the first to see that there are more calls than the connections are for.
bool ConnectionPool::WantsToGrow() {
  if (growing_ || NeededFor(in_flight_ + waiting_calls_) <= active_ || !has_usable()) return false;
  growing_ = true;
  return true;
}

void ConnectionPool::Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) {
  Enlist(call);
  std::shared_ptr<PooledConnection> connection;
  absl::Status may_wait;
  bool grow = false;
  {
    transport::MutexLock lock(mutex_);
    if (waiting_calls_ == 0) connection = TakeConnection();
    if (connection != nullptr) {
      grow = WantsToGrow();
    } else if (closed_.ok()) {
      may_wait = CheckMayWait(size);
    }
    if (connection == nullptr && may_wait.ok()) CountWaiting(size);
  }
  if (grow) loop_.Post([self = shared_from_this()] { self->Settle(); });
  if (connection != nullptr) {
    call.routing->connection = connection;
    // The call may end before Start returns, and be the last but this to hold the connection and the pool.
    return connection->endpoint->Start(call, request, size);
  }
  if (!may_wait.ok()) return RefuseLater(call, std::move(may_wait));
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  KeepRequest(call, request, size, loop_.blocks().pool());
  loop_.Post([self, &call] { self->Arrive(call); });
}

// Ends a call that may not wait.
void ConnectionPool::RefuseLater(ClientCall& call, absl::Status why) {
  loop_.Post([self = shared_from_this(), &call, why = std::move(why)]() mutable {
    self->EndWaited(call, std::move(why));
  });
}

void ConnectionPool::FailLater(ClientCall& call, absl::Status why) {
  calls_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call, why = std::move(why)]() mutable {
    self->calls_.fetch_sub(1, std::memory_order_release);
    EndUnanswered(call, {.peer = self->options_.endpoint.name}, std::move(why));
  });
}

void ConnectionPool::CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) {
  loop_.Post([self = shared_from_this(), call = std::move(call), why = std::move(why)]() mutable {
    self->CancelCall(*call, std::move(why));
  });
}

bool ConnectionPool::ready() const {
  transport::MutexLock lock(mutex_);
  return has_usable();
}

bool ConnectionPool::has_usable() const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [](const auto& connection) { return connection->usable; });
}

bool ConnectionPool::failing() {
  transport::MutexLock lock(mutex_);
  bool any = false;
  for (const std::shared_ptr<PooledConnection>& connection : connections_) {
    // Those that leave are not made again, and so never fail.
    if (connection->leaving) continue;
    if (connection->usable || !connection->endpoint->failing()) return false;
    any = true;
  }
  return any;
}

absl::Status ConnectionPool::last_error() {
  transport::MutexLock lock(mutex_);
  return last_error_;
}

// ---------------------------------------------------------------- The loop: sending

// A call that has found no connection, and counts among those that wait.
void ConnectionPool::Arrive(ClientCall& call) {
  loop_.AssertInLoop();
  if (!call.routing->cancelled.ok()) {
    Unpark(call);
    return EndWaited(call, call.routing->cancelled);
  }
  parked_.AddWaiting(call);
  Settle();
}

void ConnectionPool::StartAgain(ClientCall& call, bool admitted) {
  loop_.AssertInLoop();
  Enlist(call);
  bool can_send;
  absl::Status may_wait;
  {
    transport::MutexLock lock(mutex_);
    const bool has_room = waiting_calls_ == 0 && FindConnection() != nullptr;
    if (!admitted && !has_room && closed_.ok()) may_wait = CheckMayWait(call.request_size);
    if (may_wait.ok()) CountWaiting(call.request_size);
    can_send = has_usable();
  }
  if (!may_wait.ok()) return RefuseLater(call, std::move(may_wait));
  parked_.AddWaiting(call);
  if (can_send) return Pump();
  // It is given back, but not inside of who is to get it.
  SettleLater();
}

void ConnectionPool::CountWaiting(size_t size) {
  ++waiting_calls_;
  waiting_bytes_ += size;
}

// The call does not count among those that wait any more.
void ConnectionPool::Unpark(const ClientCall& call) {
  transport::MutexLock lock(mutex_);
  --waiting_calls_;
  waiting_bytes_ -= call.request_size;
}

// Sends what waits to connections that have room.
void ConnectionPool::Pump() {
  if (std::exchange(pumping_, true)) return;
  const std::shared_ptr<ConnectionPool> self = shared_from_this();
  while (parked_.waiting() > 0) {
    std::shared_ptr<PooledConnection> connection;
    {
      transport::MutexLock lock(mutex_);
      connection = TakeConnection();
    }
    if (connection == nullptr) break;
    ClientCall* const call = parked_.TakeWaiting();
    Unpark(*call);
    if (std::exchange(call->routing->given_back, false)) {
      // A further attempt, of which a fleet has not been told.
      ++call->routing->attempts;
      SetAttempt(*call, AttemptOf(call->head) + 1);
    }
    call->routing->connection = connection;
    connection->endpoint->StartAgain(*call, /*admitted=*/true);
  }
  pumping_ = false;
  bool grow;
  {
    transport::MutexLock lock(mutex_);
    grow = WantsToGrow();
  }
  if (grow) SettleLater();
  if (parked_.waiting() > 0) ArmTimer();
}

// While no connection is ready: gives the calls that wait to a watcher, or ends those that do not wait for
// ready if no connection is under way.
void ConnectionPool::EndHopeless() {
  if (parked_.waiting() == 0 || ready()) return;
  std::vector<ClientCall*> hopeless;
  if (watched_) {
    hopeless = parked_.TakeAll();
  } else {
    const Connections active = Active();
    if (active.empty() || std::any_of(active.begin(), active.end(), [](const auto& connection) {
          return !connection->endpoint->refusing();
        })) {
      return;
    }
    hopeless = parked_.TakeWaitingIf([](const ClientCall* call) { return !call->wait_for_ready; });
  }
  for (const ClientCall* call : hopeless) Unpark(*call);
  absl::Status why = last_error();
  if (why.ok()) why = absl::UnavailableError("no connection is ready yet");
  if (watched_) return ReturnCalls(hopeless, why);
  for (ClientCall* call : hopeless) EndWaited(*call, why);
}

// Gives calls to the watcher, for there is no connection.
void ConnectionPool::ReturnCalls(const std::vector<ClientCall*>& calls, const absl::Status& why) {
  if (calls.empty()) return;
  const std::shared_ptr<Watcher> watcher = options_.endpoint.watcher.lock();
  for (ClientCall* call : calls) {
    if (watcher == nullptr) {
      EndWaited(*call, why);
      continue;
    }
    call->router = std::exchange(call->routing->outside_pool, nullptr);
    call->routing->given_back = false;
    calls_.fetch_sub(1, std::memory_order_release);
  }
  if (watcher != nullptr) watcher->OnCallsReturned(calls, why);
}

}  // namespace ferry
