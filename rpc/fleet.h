// The servers of one service, as a channel uses them.
#ifndef FERRY_RPC_FLEET_H_
#define FERRY_RPC_FLEET_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/rpc/balancing/backoff.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/outlier_detector.h"
#include "ferry/rpc/balancing/retry_budget.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/rpc/call_failure.pb.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_routing.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/health_watch.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/rpc/parked_calls.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/retry_policy.h"
#include "ferry/rpc/server_target.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/mutex.h"

namespace ferry {

class Fleet;

// A FleetMember is one server of a fleet. Belongs to the loop, but for what is constant. Owned by shared_ptr:
// by its fleet, by pickers' snapshots, and by calls that are on it.
class FleetMember final : public ServerTarget::Watcher, public std::enable_shared_from_this<FleetMember> {
 public:
  FleetMember(Fleet& fleet, uint64_t id, ResolvedServer server)
      : id_(id), load_(std::make_shared<ServerLoad>()), fleet_(fleet), server_(std::move(server)) {}

  // Constant.
  uint64_t id() const { return id_; }
  ServerLoad& load() const { return *load_; }
  const std::shared_ptr<ServerLoad>& shared_load() const { return load_; }
  ServerTarget& endpoint() const { return *endpoint_; }

  // The way to it: one connection, or a pool of several.
  void set_endpoint(std::shared_ptr<ServerTarget> endpoint) { endpoint_ = std::move(endpoint); }
  const ResolvedServer& server() const { return server_; }
  void set_server(ResolvedServer server) { server_ = std::move(server); }

  // Begins to ask the server how `service` is whenever it is connected.
  void WatchHealth(const HealthWatch::Options& options);
  // It is connected, or is not any more.
  void FollowHealth(bool connected);
  // Null if it is not asked.
  const HealthWatch* health() const { return health_.get(); }

  // Whether calls can be sent to it: it is connected, and says that it serves if it is asked.
  bool ready() const {
    return endpoint().ready() && Says(HealthWatch::Health::kServing, /*if_not_asked=*/true);
  }
  // Whether that is not to be expected soon.
  bool failing() const {
    return endpoint().failing() || Says(HealthWatch::Health::kNotServing, /*if_not_asked=*/false);
  }

  // What the fleet knows of it.
  bool ejected = false;
  double weight_factor = 1;
  // It is in the list no more. Whoever picks it counts the call first, and then looks here; the loop sets
  // this first, and then looks for calls: one of the two sees the other, by the one order of all.
  std::atomic<bool> retired = false;

 private:
  void OnStateChange(ServerTarget& server) override;
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override;
  bool Says(HealthWatch::Health health, bool if_not_asked) const {
    return health_ == nullptr ? if_not_asked : health_->health() == health;
  }

  const uint64_t id_;
  const std::shared_ptr<ServerLoad> load_;
  Fleet& fleet_;
  std::shared_ptr<ServerTarget> endpoint_;
  std::shared_ptr<HealthWatch> health_;
  ResolvedServer server_;
};

// A Fleet sends calls to the servers that a resolver finds: each to the one that its balancer picks among
// those that are connected and healthy.
//
//     resolver --servers--> members --connected, not ejected--> picker
//                                                                  |
//     Start --pick--> member's endpoint --> OK, or an error that is final
//        |                 '--- not executed, or may be repeated ---> another member, after a while
//        '--nobody to pick--> waits
//
// A call that was surely not executed goes to another server at once. One of an idempotent method that ended
// with UNAVAILABLE is sent again, as its retry policy (retry_policy.h) and the retry budget let it: at once
// if there is another server, and otherwise after a random time. One whose policy has a hedge_delay is sent
// to further servers while it has no answer (hedged_call.h). A call that waits for no server fails as soon as
// every server has failed to be connected to, unless it waits for ready.
//
// As CallTarget. Everything is on one loop, but for Start: a call that another thread starts is picked a
// server and written by that thread.
class Fleet final : public std::enable_shared_from_this<Fleet>,
                    public CallTarget,
                    private Resolver::Watcher,
                    private CallRouter {
 public:
  struct Options {
    // What the service is called in errors.
    std::string name;
    // Of each server's endpoint, and how many there are of them.
    Endpoint::Options endpoint;
    PoolOptions pool;
    BalancingOptions balancing;
    OutlierDetector::Options outliers;
    RetryBudget::Options retry_budget;
    // How calls are sent again that say nothing else, and whose methods do not.
    RetryPolicy retry;
    // Asks each server for the health of this service, and uses those only that say that they serve it; empty
    // for a server as a whole, nullopt to ask none. The waits between the watches are the endpoint's.
    std::optional<std::string> health_service = std::nullopt;
    // Uses so many servers at most; 0 uses all. Which ones follows from client_id (balancing/subset.h), which
    // is one of the random choices if it is unset.
    size_t max_servers = 0;
    std::optional<uint64_t> client_id = std::nullopt;
    // Of random choices; 0 takes one from the system.
    uint64_t seed = 0;
  };

  // The longest bound of the waits between attempts to connect to a server, whatever the endpoint's options
  // say: calls that have other servers hurry nobody, and one that comes back is to carry its share again
  // within 5 s, the time in which its weight grows included.
  static constexpr absl::Duration kMaxBackoff = absl::Seconds(3);

  // Makes a resolver for a loop, on it. An error is taken as what there is to be found.
  using ResolverFactory =
      std::function<absl::StatusOr<std::unique_ptr<Resolver>>(transport::EventLoop& loop)>;
  // Makes the way to a server.
  using ConnectorFactory = std::function<std::unique_ptr<transport::Connector>(const ResolvedServer& server)>;

  // INVALID_ARGUMENT, naming it, for an option that is out of its bounds. `loop` must outlive the fleet.
  static absl::StatusOr<std::shared_ptr<Fleet>> Create(const Options& options, transport::EventLoop& loop,
                                                       ResolverFactory make_resolver,
                                                       ConnectorFactory make_connector);
  ~Fleet() override;

  // Makes `call`, which is about to be started, one of the fleet's. The calling thread has it alone.
  // INVALID_ARGUMENT if its retry policy cannot be followed.
  absl::Status Route(ClientCall& call, const CallOptions& options) const;

  void Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void FailLater(ClientCall& call, absl::Status why) override;
  void CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) override;
  void CancelCall(ClientCall& call, absl::Status why) override;
  void Close(const absl::Status& why) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool has_failures() const override { return calls_.load(std::memory_order_acquire) > 0; }
  size_t calls() override { return calls_.load(std::memory_order_acquire); }
  bool has_shared_calls() override { return has_calls(); }
  void AppendConnections(std::vector<ConnectionStats>& to) override;
  transport::EventLoop& loop() const override { return loop_; }
  const WireSettings& settings() const override { return options_.endpoint.session.settings; }

  // How many servers there are, and how many of them are connected to and healthy. Thread-safe.
  struct Counts {
    size_t servers = 0;
    size_t usable = 0;
  };
  Counts counts() const ABSL_LOCKS_EXCLUDED(mutex_) {
    transport::MutexLock lock(mutex_);
    return counts_;
  }
  // How often a call was sent again though it may have been executed. Thread-safe.
  uint64_t retries() const { return retries_.load(std::memory_order_relaxed); }
  // How often a call was sent to a further server while it was on its way to another. Thread-safe.
  uint64_t hedges() const { return hedges_.load(std::memory_order_relaxed); }

 private:
  friend class FleetMember;

  // What a thread picks from.
  struct Snapshot {
    std::vector<std::shared_ptr<FleetMember>> members;
    std::shared_ptr<const Picker> picker;
  };

  Fleet(const Options& options, transport::EventLoop& loop, std::unique_ptr<Balancer> balancer,
        ConnectorFactory make_connector);
  void Begin(const ResolverFactory& make_resolver);

  // Calls.
  std::shared_ptr<FleetMember> Pick(const CallRouting& routing, transport::Instant now,
                                    absl::Span<const FleetMember* const> others_than) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<FleetMember> PickAndTake(const CallRouting& routing, transport::Instant now,
                                           absl::Span<const FleetMember* const> others_than)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<FleetMember> PickNext(const ClientCall& call, transport::Instant now);
  bool TakeCall(FleetMember& member) const;
  bool HasOther(const FleetMember& member) const;
  void SetOut(ClientCall& call, std::shared_ptr<FleetMember> member, transport::Instant now);
  void OnAttemptEnd(ClientCall& call, absl::Status status) override;
  bool Describes(const ClientCall& /*call*/) const override { return true; }
  void OnFailedAttempt(ClientCall& call, const FleetMember& member, absl::Status status);
  void CountEnd(FleetMember& member, const ClientCall& call, const absl::Status& status);
  bool MayRepeat(const ClientCall& call, const absl::Status& status);
  void Repeat(ClientCall& call, const absl::Status& why, bool other_server);
  void SendAgain(ClientCall& call, const absl::Status& why);
  void Park(ClientCall& call, const absl::Status& why);
  absl::Status CheckMayWait(const ClientCall& call, const absl::Status& why) const;
  bool HasHope() const;
  void WantConnections();
  void Unpark(ClientCall& call);
  void Finish(ClientCall& call, absl::Status status);
  void Note(CallRouting& routing, transport::Instant began, const FleetMember& member,
            const absl::Status& status) const;
  CallFailure::Phase PhaseOf(const ClientCall& call) const;
  CallFailure Describe(const ClientCall& call) const;
  void Pump();
  void OnTimer();
  void ArmTimer();

  // Calls that go to several servers at once.
  void BeginHedging(ClientCall& call);
  void ArmHedge(HedgedCall& hedged);
  void OnHedgeDue(ClientCall& call);
  void OnHedgedEnd(ClientCall& attempt, const FleetMember& member, absl::Status status);
  void Decide(const std::shared_ptr<HedgedCall>& hedged, absl::Status status);
  void EndHedged(HedgedCall& hedged);
  void LeaveHedged(CallRouting& routing);

  // Servers.
  void OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) override;
  std::vector<ResolvedServer> OwnPart(std::vector<ResolvedServer> servers) const;
  void Add(ResolvedServer server);
  std::shared_ptr<ServerTarget> MakeTarget(const std::shared_ptr<FleetMember>& member);
  void Retire(std::shared_ptr<FleetMember> member);
  void CloseIfRetired(FleetMember& member);
  void OnMemberChange(FleetMember& member);
  void OnMemberReturned(FleetMember& member, const std::vector<ClientCall*>& calls, const absl::Status& why);
  void OnMemberHealth(FleetMember& member);
  bool FollowUse(FleetMember& member);
  size_t usable_servers() const;
  void Sweep();
  void RefreshLater();
  void Refresh() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WhyNone() const;

  // Constant.
  const Options options_;
  // Of calls that say nothing.
  const RetryRules retry_rules_;
  transport::EventLoop& loop_;
  const std::unique_ptr<Balancer> balancer_;
  const ConnectorFactory make_connector_;

  std::atomic<size_t> calls_{0};
  // Requests of calls that were started while there was no server for them.
  std::atomic<size_t> parked_bytes_{0};
  std::atomic<uint64_t> retries_{0};
  std::atomic<uint64_t> hedges_{0};
  RetryBudget retry_budget_;

  mutable transport::Mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);

  // Belong to the loop.
  // The same, for calls that start there: without the mutex.
  std::shared_ptr<const Snapshot> loop_snapshot_;
  std::unique_ptr<Resolver> resolver_;
  // By name.
  std::map<std::string, std::shared_ptr<FleetMember>, std::less<>> members_;
  // In the order of the list.
  std::vector<std::shared_ptr<FleetMember>> order_;
  // Those that are in the list no more, but have calls.
  std::vector<std::shared_ptr<FleetMember>> retired_;
  uint64_t last_id_ = 0;
  // What the resolver has said: nothing yet, a list, or why there is none or the last may be out of date.
  bool told_ = false;
  absl::Status resolver_error_;
  bool refresh_posted_ = false;
  // Every member has been told that calls wait since one last changed.
  bool hurried_ = false;
  OutlierDetector outliers_;
  // Calls have ended since the last sweep, or a server's weight is still growing.
  bool sweep_wanted_ = false;
  ParkedCalls parked_;
  const uint64_t client_id_;
  Backoff retry_backoff_;
  // Not OK: closed, and why.
  absl::Status closed_;
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_FLEET_H_
