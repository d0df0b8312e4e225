#include "tests/rpc/balancing/fleet_simulation.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <queue>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/rpc/balancing/subset.h"
#include "ferry/transport/clock.h"

namespace ferry::test {
namespace {

using transport::Instant;

// The same numbers for the same seed everywhere.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(Scatter(seed)) {}
  uint64_t Next() { return Scatter(state_++); }
  uint64_t Below(uint64_t bound) { return Scale(Next(), bound); }
  // Exponentially distributed.
  double Exponential(double mean) { return -mean * std::log(1 - Fraction(Next())); }

 private:
  uint64_t state_;
};

struct Client {
  std::vector<std::shared_ptr<ServerLoad>> loads;
  std::shared_ptr<const Picker> picker;
};

struct Call {
  size_t client;
  size_t server;
  Instant started;
  bool counts;
};

struct Server {
  size_t running = 0;
  std::deque<size_t> waiting;
  uint64_t calls = 0;
};

struct Event {
  Instant at;
  size_t call;
  bool operator>(const Event& other) const { return at != other.at ? at > other.at : call > other.call; }
};

class Fleet {
 public:
  explicit Fleet(const FleetScenario& scenario)
      : scenario_(scenario), dice_(scenario.seed), servers_(scenario.servers) {
    for (size_t i = 0; i < scenario.servers; ++i) names_.push_back(ServerName(i));
    for (size_t i = 0; i < scenario.clients; ++i) clients_.push_back(MakeClient());
    if (!scenario.zipf) return;
    double sum = 0;
    for (uint64_t k = 1; k <= scenario.keys; ++k) frequencies_.push_back(sum += 1.0 / static_cast<double>(k));
  }

  FleetOutcome Run() {
    const double mean_gap = absl::ToDoubleNanoseconds(scenario_.service_time) /
                            static_cast<double>(scenario_.workers * scenario_.servers) /
                            scenario_.utilization;
    double next_start = 1e9;
    while (calls_.size() < scenario_.calls || !events_.empty()) {
      const bool starts = calls_.size() < scenario_.calls;
      if (starts && (events_.empty() || events_.top().at.nanos > static_cast<int64_t>(next_start))) {
        now_ = {static_cast<int64_t>(next_start)};
        Start();
        next_start += dice_.Exponential(mean_gap);
      } else {
        now_ = events_.top().at;
        const size_t call = events_.top().call;
        events_.pop();
        End(call);
      }
    }
    return Summary();
  }

 private:
  Client MakeClient() {
    Client client;
    std::vector<Candidate> candidates;
    for (const std::string& name : names_) {
      client.loads.push_back(std::make_shared<ServerLoad>());
      candidates.push_back({.name = name, .load = client.loads.back()});
    }
    client.picker =
        Balancer::Create({.policy = scenario_.policy, .load_bound = scenario_.load_bound}, dice_.Next())
            .value()
            ->MakePicker(candidates);
    return client;
  }

  uint64_t NextKey() {
    if (!scenario_.zipf) return Scatter(dice_.Below(scenario_.keys));
    const double at = Fraction(dice_.Next()) * frequencies_.back();
    return Scatter(static_cast<uint64_t>(std::upper_bound(frequencies_.begin(), frequencies_.end(), at) -
                                         frequencies_.begin()));
  }

  bool slow_by_now() const {
    return static_cast<double>(calls_.size()) > scenario_.slow_from * static_cast<double>(scenario_.calls);
  }

  void Start() {
    const size_t client = dice_.Below(clients_.size());
    PickArguments arguments = {.now = now_, .random = dice_.Next()};
    if (scenario_.policy == BalancingPolicy::kConsistentHash) arguments.hash_key = NextKey();
    const size_t server = clients_[client].picker->Pick(arguments).value();
    clients_[client].loads[server]->OnStart();
    calls_.push_back({client, server, now_, slow_by_now()});
    Server& s = servers_[server];
    if (calls_.back().counts) ++s.calls;
    s.waiting.push_back(calls_.size() - 1);
    most_at_once_ = std::max(most_at_once_, s.running + s.waiting.size());
    RunNext(server);
  }

  void RunNext(size_t server) {
    Server& s = servers_[server];
    if (s.waiting.empty() || s.running == scenario_.workers) return;
    const double slowness = server == 0 && slow_by_now() ? scenario_.slowness : 1;
    const double takes = dice_.Exponential(absl::ToDoubleNanoseconds(scenario_.service_time) * slowness);
    events_.push({{now_.nanos + static_cast<int64_t>(takes)}, s.waiting.front()});
    s.waiting.pop_front();
    ++s.running;
  }

  void End(size_t index) {
    const Call& call = calls_[index];
    clients_[call.client].loads[call.server]->OnEnd(now_, call.started, /*ok=*/true);
    --servers_[call.server].running;
    RunNext(call.server);
    if (call.counts) latencies_.push_back(now_.nanos - call.started.nanos);
  }

  absl::Duration Quantile(double q) {
    const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(latencies_.size() - 1));
    std::nth_element(latencies_.begin(), latencies_.begin() + at, latencies_.end());
    return absl::Nanoseconds(latencies_[static_cast<size_t>(at)]);
  }

  FleetOutcome Summary() {
    std::vector<double> counts;
    counts.reserve(servers_.size());
    for (const Server& server : servers_) counts.push_back(static_cast<double>(server.calls));
    const Spread spread = SpreadOf(counts);
    return {.p50 = Quantile(0.5),
            .p99 = Quantile(0.99),
            .p999 = Quantile(0.999),
            .most = spread.most / spread.mean,
            .p99_share = spread.p99 / spread.mean,
            .variation = spread.variation,
            .share_of_first = counts[0] / static_cast<double>(latencies_.size()),
            .most_at_once = most_at_once_};
  }

  const FleetScenario scenario_;
  Dice dice_;
  std::vector<std::string> names_;
  std::vector<Client> clients_;
  std::vector<Server> servers_;
  // Sums of the frequencies of the keys up to each.
  std::vector<double> frequencies_;
  std::vector<Call> calls_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  Instant now_{};
  std::vector<int64_t> latencies_;
  size_t most_at_once_ = 0;
};

uint64_t CountNew(const std::vector<size_t>& before, const std::vector<size_t>& after) {
  std::vector<size_t> added;
  std::set_difference(after.begin(), after.end(), before.begin(), before.end(), std::back_inserter(added));
  return added.size();
}

}  // namespace

FleetOutcome Simulate(const FleetScenario& scenario) { return Fleet(scenario).Run(); }

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Spread spread;
  const auto count = static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) {
    spread.mean += value / count;
    squares += value * value / count;
  }
  spread.least = values.front();
  spread.most = values.back();
  spread.p99 = values[static_cast<size_t>(std::ceil(0.99 * count)) - 1];
  spread.variation = std::sqrt(std::max(squares - spread.mean * spread.mean, 0.0)) / spread.mean;
  return spread;
}

std::string ServerName(size_t number) {
  return absl::StrCat("10.", number >> 16, ".", (number >> 8) & 255, ".", number & 255, ":7000");
}

uint64_t KeysMoved(size_t servers, size_t gone, uint64_t keys) {
  std::vector<std::string> names;
  std::vector<Candidate> candidates;
  candidates.reserve(servers);
  for (size_t i = 0; i < servers; ++i) names.push_back(ServerName(i));
  for (const std::string& name : names) {
    candidates.push_back({.name = name, .load = std::make_shared<ServerLoad>()});
  }
  const std::unique_ptr<Balancer> balancer =
      Balancer::Create({.policy = BalancingPolicy::kConsistentHash}, 1).value();
  const std::shared_ptr<const Picker> before = balancer->MakePicker(candidates);
  candidates[gone].usable = false;
  const std::shared_ptr<const Picker> after = balancer->MakePicker(candidates);
  uint64_t moved = 0;
  for (uint64_t key = 0; key < keys; ++key) {
    const PickArguments arguments = {.hash_key = Scatter(key)};
    if (before->Pick(arguments) != after->Pick(arguments)) ++moved;
  }
  return moved;
}

SubsetOutcome SimulateSubsets(const SubsetScenario& scenario) {
  std::vector<std::string> names;
  for (size_t i = 0; i < scenario.servers; ++i) names.push_back(ServerName(i));
  const std::vector<absl::string_view> all(names.begin(), names.end());
  // Without the last: the numbers of the others stay.
  const std::vector<absl::string_view> fewer(names.begin(), names.end() - 1);
  Dice dice(scenario.seed);
  std::vector<double> clients(scenario.servers);
  SubsetOutcome outcome;
  for (size_t client = 0; client < scenario.clients; ++client) {
    const uint64_t id = scenario.random_ids ? dice.Next() : client;
    const std::vector<size_t> chosen = Subset(all, id, scenario.size);
    const std::vector<size_t> without = Subset(fewer, id, scenario.size);
    for (const size_t server : chosen) ++clients[server];
    if (chosen.back() == scenario.servers - 1) ++outcome.users;
    outcome.moved_by_leaving += CountNew(chosen, without);
    outcome.moved_by_coming += CountNew(without, chosen);
  }
  outcome.clients = SpreadOf(clients);
  return outcome;
}

}  // namespace ferry::test
