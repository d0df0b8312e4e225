// The short form of the simulation: what the policies promise.
#include <cmath>
#include <cstdint>

#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"
#include "gtest/gtest.h"
#include "tests/rpc/balancing/fleet_simulation.h"
#include "tests/testing/random.h"

namespace ferry::test {
namespace {

class FleetSimulationTest : public testing::Test {
 protected:
  Random random_;
  const uint64_t seed_ = random_.Number(1, 1u << 30);
};

TEST_F(FleetSimulationTest, ASlowServerDoesNotSlowTheFleet) {
  for (const size_t servers : {3, 10, 100}) {
    SCOPED_TRACE(servers);
    FleetScenario scenario = {.servers = servers, .calls = 50'000, .seed = seed_};
    const FleetOutcome healthy = Simulate(scenario);
    scenario.slowness = 50;
    const FleetOutcome slow = Simulate(scenario);
    EXPECT_LE(slow.p99, 2 * healthy.p99);
    EXPECT_LT(slow.share_of_first, 0.25 / static_cast<double>(servers));
  }
}

// That the test above can fail.
TEST_F(FleetSimulationTest, RoundRobinIsSlowedByOneServer) {
  FleetScenario scenario = {
      .servers = 10, .policy = BalancingPolicy::kRoundRobin, .calls = 50'000, .seed = seed_};
  const FleetOutcome healthy = Simulate(scenario);
  scenario.slowness = 50;
  EXPECT_GT(Simulate(scenario).p99, 10 * healthy.p99);
}

TEST_F(FleetSimulationTest, LeastLoadedSpreadsTheCalls) {
  for (const size_t servers : {3, 10, 100, 1'000}) {
    SCOPED_TRACE(servers);
    const FleetOutcome outcome =
        Simulate({.servers = servers, .utilization = 0.7, .calls = 100'000, .seed = seed_});
    // Random choice would have it vary by 1/sqrt(mean): this is no worse, with a fifth for chance.
    EXPECT_LT(outcome.variation, 1.2 * std::sqrt(static_cast<double>(servers) / 90'000));
  }
}

TEST_F(FleetSimulationTest, TheBoundKeepsHotKeysFromOverloadingAServer) {
  FleetScenario scenario = {.servers = 100,
                            .clients = 1,
                            .policy = BalancingPolicy::kConsistentHash,
                            .utilization = 0.7,
                            .calls = 50'000,
                            .zipf = true,
                            .seed = seed_};
  const FleetOutcome bounded = Simulate(scenario);
  scenario.load_bound = 1e9;
  const FleetOutcome unbounded = Simulate(scenario);
  EXPECT_LT(bounded.most, 2);
  EXPECT_GT(unbounded.most, 4);
  EXPECT_LT(bounded.most_at_once * 10, unbounded.most_at_once);
}

TEST_F(FleetSimulationTest, ReplaysASeed) {
  const FleetScenario scenario = {.servers = 10, .calls = 5'000, .slowness = 50, .seed = seed_};
  const FleetOutcome first = Simulate(scenario);
  const FleetOutcome second = Simulate(scenario);
  EXPECT_EQ(first.p999, second.p999);
  EXPECT_EQ(first.variation, second.variation);
  EXPECT_EQ(first.most_at_once, second.most_at_once);
}

}  // namespace
}  // namespace ferry::test
