// Several connections to one server.
#ifndef FERRY_RPC_CONNECTION_POOL_H_
#define FERRY_RPC_CONNECTION_POOL_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_routing.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/parked_calls.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/server_target.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/mutex.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A PooledConnection is one connection of a pool, with the endpoint that makes it. Owned by shared_ptr: by
// its pool, and by calls that are on it.
class PooledConnection final : public ServerTarget::Watcher {
 public:
  // An Owner is told what a Watcher is, and of which connection.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnConnectionChange(PooledConnection& connection) = 0;
    virtual void OnConnectionReturned(PooledConnection& connection, const std::vector<ClientCall*>& calls,
                                      const absl::Status& why) = 0;
  };

  // `owner` must outlive the endpoint.
  explicit PooledConnection(Owner& owner) : owner_(owner) {}

  // Constant, once made.
  std::shared_ptr<Endpoint> endpoint;

  // What the pool knows of it, under the pool's mutex. It takes calls, so many at most.
  bool usable = false;
  size_t most_calls = 0;
  size_t in_flight = 0;
  // It takes no more calls, and is closed when it has none.
  bool leaving = false;
  // When it last had a call, or was connected.
  transport::Instant idle_since;

  // Belong to the loop.
  // It was connected or tried to be, and is not.
  bool lost = false;
  // When it is to be replaced.
  transport::Instant expires_at = transport::Instant::Infinite();
  // The one that will take its place once it is connected.
  const PooledConnection* successor = nullptr;

 private:
  void OnStateChange(ServerTarget& /*server*/) override { owner_.OnConnectionChange(*this); }
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    owner_.OnConnectionReturned(*this, calls, why);
  }

  Owner& owner_;
};

// A ConnectionPool has several connections to one server (pool_options.h), each with an Endpoint of its own.
//
//     Start ─> the least busy of as many as the calls need ─> Endpoint ─> its session
//         '─ none has room: waits, in order <──── given back, for the connection was lost
//
// A call is counted on its connection, under the pool's mutex, from before the endpoint sees it until it has
// ended, and a connection is closed only when it has none: so no call is lost to a connection that is closed
// for its age or since it was idle. The calls of one that is lost, as far as they were surely not executed,
// go to the others first. With a Watcher the pool gives calls back only when no connection is ready; without
// one calls wait for that as they do in an Endpoint.
//
// While none is ready, only one connection is attempted, whatever is wanted: so a server that is down has no
// more attempts to bear, and no less backoff.
//
// A pool is a channel's own, and so is what it is for, the key: within the channel, the server, by its name
// and its addresses; its credentials, of which there are none yet, will be the channel's. Two channels to one
// server share nothing.
//
// Every connection lives on the channel's one loop. As CallTarget: Start is Thread-safe, and so is what says
// so; the rest belongs to the loop. Owned by shared_ptr: by its channel or fleet, by its endpoints, and by
// tasks on the loop.
class ConnectionPool final : public std::enable_shared_from_this<ConnectionPool>,
                             public ServerTarget,
                             private CallRouter,
                             private PooledConnection::Owner {
 public:
  struct Options {
    // REQUIRES: CheckPoolOptions is OK. Unset minima are none.
    PoolOptions pool;
    // Of each connection's endpoint. Its watcher is the pool's, and its limits of what may wait are the whole
    // pool's.
    Endpoint::Options endpoint;
    // Of the random ages; 0 takes one from the system.
    uint64_t seed = 0;
  };

  // `loop` is not owned and must outlive the pool.
  static std::shared_ptr<ConnectionPool> Create(const Options& options, transport::EventLoop& loop,
                                                std::unique_ptr<transport::Connector> connector);
  ~ConnectionPool() override;

  void Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void FailLater(ClientCall& call, absl::Status why) override;
  void CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) override;
  void CancelCall(ClientCall& call, absl::Status why) override;
  void Close(const absl::Status& why) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool has_failures() const override { return calls_.load(std::memory_order_acquire) > 0; }
  size_t calls() override { return calls_.load(std::memory_order_acquire); }
  bool has_shared_calls() override { return has_failures(); }
  void AppendConnections(std::vector<ConnectionStats>& to) override ABSL_LOCKS_EXCLUDED(mutex_);
  transport::EventLoop& loop() const override { return loop_; }
  const WireSettings& settings() const override { return options_.endpoint.session.settings; }

  void StartAgain(ClientCall& call, bool admitted) override ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes min_connections.
  void KeepConnected() override { Settle(); }
  void ConnectSoon() override;
  // Whether one connection is ready.
  bool ready() const override ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether every connection is failing, of those that do not leave.
  bool failing() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status last_error() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Connections = std::vector<std::shared_ptr<PooledConnection>>;

  ConnectionPool(const Options& options, transport::EventLoop& loop,
                 std::unique_ptr<transport::Connector> connector);

  // Calls.
  void Enlist(ClientCall& call);
  size_t NeededFor(size_t calls) const;
  std::shared_ptr<PooledConnection> FindConnection() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<PooledConnection> TakeConnection() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckMayWait(size_t size) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNotFull() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool has_usable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WantsToGrow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefuseLater(ClientCall& call, absl::Status why);
  void Arrive(ClientCall& call);
  void CountWaiting(size_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unpark(const ClientCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Pump() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndHopeless();
  void Release(ClientCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnAttemptEnd(ClientCall& call, absl::Status status) override;
  // Outside of a fleet nobody else does.
  bool Describes(const ClientCall& call) const override { return call.routing->outside_pool != nullptr; }
  void Finish(ClientCall& call, absl::Status status);
  void EndWaited(ClientCall& call, absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndWaited(ClientCall& call, CallPhase phase, absl::Status why);
  CallPhase PhaseOfWaiting() const ABSL_LOCKS_EXCLUDED(mutex_);
  void ReturnCalls(const std::vector<ClientCall*>& calls, const absl::Status& why);

  // Connections.
  void OnConnectionChange(PooledConnection& connection) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnReady(PooledConnection& connection) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnLost(PooledConnection& connection) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnConnectionReturned(PooledConnection& connection, const std::vector<ClientCall*>& calls,
                            const absl::Status& why) override ABSL_LOCKS_EXCLUDED(mutex_);
  void EndTurnedAway(const absl::Status& why);
  Connections All() const ABSL_LOCKS_EXCLUDED(mutex_);
  Connections Active() const;
  bool IsSuccessor(const PooledConnection& connection) const;
  size_t Wanted() const ABSL_LOCKS_EXCLUDED(mutex_);
  const PooledConnection* Add() ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(PooledConnection& connection) ABSL_LOCKS_EXCLUDED(mutex_);
  void CloseLeft() ABSL_LOCKS_EXCLUDED(mutex_);
  void CountActive() ABSL_LOCKS_EXCLUDED(mutex_);
  void Resize();
  void LeaveIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsIdle(const PooledConnection& connection) const ABSL_LOCKS_EXCLUDED(mutex_);
  void ReplaceAged();
  void Settle() ABSL_LOCKS_EXCLUDED(mutex_);
  void SettleLater();
  void OnTimer();
  void ArmTimer() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status closed() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Constant.
  const Options options_;
  const size_t min_connections_;
  const absl::Duration idle_timeout_;
  transport::EventLoop& loop_;
  const std::shared_ptr<transport::Connector> connector_;
  const bool watched_;

  // Calls that have been started and have not ended.
  std::atomic<size_t> calls_{0};

  mutable transport::Mutex mutex_;
  // Changed by the loop only. In the order they were made.
  Connections connections_ ABSL_GUARDED_BY(mutex_);
  // Calls on connections that do not leave; and those that wait for one, with the bytes of their requests.
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t waiting_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // How many connections there are that will not leave or be replaced, so that each call can say whether it
  // is time for more; and whether one has said so.
  size_t active_ ABSL_GUARDED_BY(mutex_) = 0;
  bool growing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  // Not OK: closed, and why; and how far calls that waited had come then.
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  CallPhase closed_in_ ABSL_GUARDED_BY(mutex_) = CallPhase::kConnect;

  // Belong to the loop.
  ParkedCalls parked_;
  bool pumping_ = false;
  bool settle_posted_ = false;
  std::mt19937_64 random_;
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_CONNECTION_POOL_H_
