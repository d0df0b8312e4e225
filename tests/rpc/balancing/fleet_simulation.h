// Clients that call the servers of a fleet, in simulated time.
#ifndef FERRY_TESTS_RPC_BALANCING_FLEET_SIMULATION_H_
#define FERRY_TESTS_RPC_BALANCING_FLEET_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"

namespace ferry::test {

// What is simulated. Calls come at random times (a Poisson process) to clients at random. A server runs a few
// of them at once, the others wait there in order; one takes a random time (exponentially distributed).
struct FleetScenario {
  size_t servers = 3;
  // Each with a balancer and a view of the servers of its own.
  size_t clients = 10;
  BalancingPolicy policy = BalancingPolicy::kLeastLoaded;
  // Of what all servers together can carry while all are well.
  double utilization = 0.4;
  // How many calls a server runs at once, and how long one takes on the average.
  size_t workers = 8;
  absl::Duration service_time = absl::Milliseconds(2);
  // Counted from the start.
  uint64_t calls = 200'000;
  // Server 0 takes this many times as long, from the time on by which slow_from of the calls have come.
  double slowness = 1;
  double slow_from = 0.1;
  // How many different keys the calls have, for kConsistentHash; the k-th most frequent 1/k as often as the
  // first if `zipf`, otherwise all equally often.
  uint64_t keys = 100'000;
  bool zipf = false;
  double load_bound = 1.25;
  uint64_t seed = 1;
};

// What came of it. Latencies and shares are of the calls that came after server 0 became slow, or would have.
struct FleetOutcome {
  absl::Duration p50;
  absl::Duration p99;
  absl::Duration p999;
  // The number of calls per server, against its mean over all.
  double most = 0;
  double p99_share = 0;
  // The standard deviation against the mean.
  double variation = 0;
  // What part of the calls went to server 0.
  double share_of_first = 0;
  // The most calls that any server had, running and waiting, at any time.
  size_t most_at_once = 0;
};

FleetOutcome Simulate(const FleetScenario& scenario);

// How numbers spread around their mean: values.
struct Spread {
  double mean = 0;
  double least = 0;
  double p99 = 0;
  double most = 0;
  double variation = 0;
};
Spread SpreadOf(std::vector<double> values);

// "10.0.12.34:7000", for the server of this number.
std::string ServerName(size_t number);

// How many of `keys` keys go elsewhere when one of `servers` servers leaves.
uint64_t KeysMoved(size_t servers, size_t gone, uint64_t keys);

// What subsetting gives: values.
struct SubsetOutcome {
  // Of the number of clients per server.
  Spread clients;
  // How many connections are opened, of all clients together, when one server leaves, and when it comes back.
  uint64_t moved_by_leaving = 0;
  uint64_t moved_by_coming = 0;
  // How many clients used it.
  uint64_t users = 0;
};

// Clients with ids 0, 1, 2, ... or random ones.
struct SubsetScenario {
  size_t servers = 100;
  size_t clients = 1000;
  size_t size = 20;
  bool random_ids = false;
  uint64_t seed = 1;
};
SubsetOutcome SimulateSubsets(const SubsetScenario& scenario);

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_BALANCING_FLEET_SIMULATION_H_
