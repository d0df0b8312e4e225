// The servers of a fleet: which there are, and which of them calls may go to.
#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/subset.h"
#include "ferry/rpc/connection_pool.h"
#include "ferry/rpc/fleet.h"
#include "ferry/transport/error_number.h"

namespace ferry {

void FleetMember::OnStateChange(ServerTarget& /*server*/) { fleet_.OnMemberChange(*this); }

void FleetMember::OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) {
  std::vector<ClientCall*> routed;
  // Watches of its health, which are for this server alone.
  std::vector<ClientCall*> own;
  routed.reserve(calls.size());
  for (ClientCall* call : calls) (call->router != nullptr ? routed : own).push_back(call);
  fleet_.OnMemberReturned(*this, routed, why);
  for (ClientCall* call : own) {
    call->execution = Execution::kNotSent;
    call->End(absl::UnavailableError(why.message()));
  }
}

// ---------------------------------------------------------------- The list

void Fleet::OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) {
  loop_.AssertInLoop();
  if (servers.ok() && servers->empty()) {
    servers = absl::UnavailableError(absl::StrCat(options_.name, " has no servers"));
  }
  if (!servers.ok()) {
    resolver_error_ = servers.status();
    if (!told_) RefreshLater();
    return;
  }
  told_ = true;
  resolver_error_ = absl::OkStatus();
  std::vector<ResolvedServer> part = OwnPart(*std::move(servers));
  std::map<std::string, std::shared_ptr<FleetMember>, std::less<>> before;
  before.swap(members_);
  order_.clear();
  for (ResolvedServer& server : part) {
    // Of two entries with one name the first counts.
    if (members_.contains(server.name)) continue;
    const auto found = before.find(server.name);
    if (found == before.end() || found->second->server().addresses != server.addresses) {
      Add(std::move(server));
      continue;
    }
    found->second->set_server(server);
    order_.push_back(found->second);
    members_.emplace(std::move(server.name), std::move(found->second));
    before.erase(found);
  }
  for (auto& [name, member] : before) Retire(std::move(member));
  RefreshLater();
}

// Those that this client uses.
std::vector<ResolvedServer> Fleet::OwnPart(std::vector<ResolvedServer> servers) const {
  if (options_.max_servers == 0 || servers.size() <= options_.max_servers) return servers;
  std::vector<absl::string_view> names;
  names.reserve(servers.size());
  for (const ResolvedServer& server : servers) names.emplace_back(server.name);
  std::vector<ResolvedServer> part;
  for (const size_t index : Subset(names, client_id_, options_.max_servers)) {
    part.push_back(servers[index]);
  }
  return part;
}

void Fleet::Add(ResolvedServer server) {
  auto member = std::make_shared<FleetMember>(*this, ++last_id_, std::move(server));
  member->set_endpoint(MakeTarget(member));
  if (options_.health_service.has_value()) {
    member->WatchHealth({.service = *options_.health_service,
                         .renew_after = options_.pool.max_age,
                         .min_backoff = options_.endpoint.min_backoff,
                         .max_backoff = options_.endpoint.max_backoff,
                         .seed = options_.endpoint.seed});
  }
  outliers_.Add(member->id(), member->shared_load(), /*ramp_up=*/usable_servers() > 0);
  order_.push_back(member);
  members_.emplace(member->server().name, member);
  member->endpoint().KeepConnected();
}

// The way to a server: one connection, or as many as the options say.
std::shared_ptr<ServerTarget> Fleet::MakeTarget(const std::shared_ptr<FleetMember>& member) {
  Endpoint::Options options = options_.endpoint;
  options.name = member->server().name;
  options.max_backoff = std::min(options.max_backoff, kMaxBackoff);
  options.watcher = member;
  options.keep_alive = shared_from_this();
  std::unique_ptr<transport::Connector> connector = make_connector_(member->server());
  if (!WantsPool(options_.pool, /*of_service=*/true)) {
    return Endpoint::Create(options, loop_, std::move(connector));
  }
  ConnectionPool::Options pool{.pool = options_.pool, .endpoint = options, .seed = options_.seed};
  pool.pool.min_connections = options_.pool.min_connections.value_or(1);
  return ConnectionPool::Create(pool, loop_, std::move(connector));
}

// A server is in the list no more: it gets no new calls, and ends those that it has.
void Fleet::Retire(std::shared_ptr<FleetMember> member) {
  FleetMember& retired = *member;
  retired.retired = true;
  retired.FollowHealth(/*connected=*/false);
  outliers_.Remove(retired.id());
  retired_.push_back(std::move(member));
  CloseIfRetired(retired);
}

void Fleet::CloseIfRetired(FleetMember& member) {
  if (!member.retired || member.load().in_flight() > 0) return;
  const auto found = std::find_if(retired_.begin(), retired_.end(),
                                  [&](const auto& retired) { return retired.get() == &member; });
  if (found == retired_.end()) return;
  std::shared_ptr<FleetMember> closed = std::move(*found);
  retired_.erase(found);
  // Something of it may be on the stack.
  loop_.PostToOwner([self = shared_from_this(), closed = std::move(closed)] {
    // Somebody may have counted a call on it, to find only then that it is not to be used; and tells the
    // loop.
    if (self->closed_.ok() && closed->load().in_flight() > 0) {
      self->retired_.push_back(closed);
      return;
    }
    closed->endpoint().Close(absl::UnavailableError(
        absl::StrCat(closed->server().name, " is not a server of ", self->options_.name, " any more")));
  });
}

// ---------------------------------------------------------------- Their state

void Fleet::OnMemberChange(FleetMember& member) {
  if (!closed_.ok() || member.retired) return;
  hurried_ = false;
  member.FollowHealth(member.endpoint().ready());
  FollowUse(member);
  if (!member.endpoint().ready()) {
    if (resolver_ != nullptr) resolver_->ResolveAgain();
    if (parked_.size() > 0) WantConnections();
  }
  RefreshLater();
}

// Whether it is news that the member can be used, or cannot.
bool Fleet::FollowUse(FleetMember& member) {
  const bool usable = member.ready();
  if (!outliers_.SetUsable(member.id(), usable, loop_.now())) return false;
  member.ejected = outliers_.is_ejected(member.id());
  member.weight_factor = outliers_.weight_factor(member.id());
  sweep_wanted_ = sweep_wanted_ || usable;
  return true;
}

void Fleet::OnMemberReturned(FleetMember& member, const std::vector<ClientCall*>& calls,
                             const absl::Status& why) {
  const std::shared_ptr<Fleet> self = shared_from_this();
  // Nobody is to pick this one meanwhile.
  if (!member.ready() && closed_.ok()) Refresh();
  for (ClientCall* call : calls) {
    call->router = nullptr;
    member.load().OnAbandoned();
    call->routing->member = nullptr;
    call->routing->last_member = &member;
    call->execution = Execution::kNotSent;
    call->phase = CallPhase::kQueue;
    if (call->routing->hedged != nullptr) {
      OnHedgedEnd(*call, member, why);
      continue;
    }
    Note(*call->routing, call->routing->sent_at, member, why);
    if (!call->wait_for_ready && call->routing->attempts >= Endpoint::kMaxTurnedAway) {
      Finish(*call, absl::UnavailableError(
                        absl::StrCat(std::string(why.message()), ", attempt ", call->routing->attempts)));
    } else {
      SendAgain(*call, why);
    }
  }
  if (member.retired) CloseIfRetired(member);
}

void Fleet::Sweep() {
  const std::vector<OutlierDetector::Change> changes = outliers_.Sweep(loop_.now());
  for (const OutlierDetector::Change& change : changes) {
    const auto found = std::find_if(order_.begin(), order_.end(),
                                    [&](const auto& member) { return member->id() == change.server; });
    if (found == order_.end()) continue;
    (*found)->ejected = change.ejected;
    (*found)->weight_factor = change.weight_factor;
  }
  if (!changes.empty()) RefreshLater();
  // An idle fleet sleeps, unless a server is still to come back.
  sweep_wanted_ =
      outliers_.ejected() > 0 || has_calls() ||
      std::any_of(order_.begin(), order_.end(), [](const auto& member) { return member->weight_factor < 1; });
}

size_t Fleet::usable_servers() const {
  return static_cast<size_t>(std::count_if(
      order_.begin(), order_.end(), [](const auto& member) { return !member->ejected && member->ready(); }));
}

void Fleet::AppendConnections(std::vector<ConnectionStats>& to) {
  loop_.AssertInLoop();
  for (const std::shared_ptr<FleetMember>& member : order_) member->endpoint().AppendConnections(to);
  for (const std::shared_ptr<FleetMember>& member : retired_) member->endpoint().AppendConnections(to);
}

// Once for all that has changed in a batch.
void Fleet::RefreshLater() {
  if (std::exchange(refresh_posted_, true)) return;
  loop_.Post([self = shared_from_this()] {
    self->refresh_posted_ = false;
    if (!self->closed_.ok()) return;
    self->Refresh();
    self->Pump();
    self->ArmTimer();
  });
}

// Has calls picked from the servers as they are now.
void Fleet::Refresh() {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->members = order_;
  // Those that were ejected are better than none.
  const size_t usable = usable_servers();
  const bool any = usable > 0;
  std::vector<Candidate> candidates;
  candidates.reserve(order_.size());
  for (const std::shared_ptr<FleetMember>& member : order_) {
    const ResolvedServer& server = member->server();
    candidates.push_back({.name = server.name,
                          .weight = server.weight,
                          .weight_factor = std::max(member->weight_factor, Candidate::kMinFactor),
                          .locality = server.locality,
                          .priority = server.priority,
                          .usable = member->ready() && (!any || !member->ejected),
                          .load = member->shared_load()});
  }
  snapshot->picker = balancer_->MakePicker(candidates);
  loop_snapshot_ = snapshot;
  transport::MutexLock lock(mutex_);
  counts_ = {.servers = snapshot->members.size(), .usable = usable};
  snapshot_ = std::move(snapshot);
}

// Why a call finds no server.
absl::Status Fleet::WhyNone() const {
  if (!told_) {
    if (!resolver_error_.ok()) return absl::UnavailableError(resolver_error_.message());
    return absl::UnavailableError(absl::StrCat("the servers of ", options_.name, " are not known yet"));
  }
  // It is being closed.
  if (order_.empty()) return absl::UnavailableError(absl::StrCat(options_.name, " has no servers any more"));
  const FleetMember& last = *order_.back();
  // They may not be the right ones any more.
  const std::string since =
      resolver_error_.ok() ? "" : absl::StrCat("; since they were found: ", resolver_error_.message());
  if (last.endpoint().ready() && last.health() != nullptr) {
    return absl::UnavailableError(absl::StrCat("none of the ", order_.size(), " servers of ", options_.name,
                                               " serves; ", last.server().name, ": ",
                                               last.health()->last_word(), since));
  }
  const absl::Status error = last.endpoint().last_error();
  return transport::WithErrorNumber(
      absl::UnavailableError(absl::StrCat("none of the ", order_.size(), " servers of ", options_.name,
                                          " can be reached; ", last.server().name, ": ",
                                          std::string(error.message()), since)),
      transport::ErrorNumberOf(error));
}

}  // namespace ferry
