// The short form of ./dev simulate, and that a seed replays.
#include "tests/simulation/simulation.h"

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <sstream>

#include "absl/base/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/world.h"

namespace ferry::simulation {
namespace {

#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
constexpr uint64_t kSchedules = 500;
#else
constexpr uint64_t kSchedules = 10'000;
#endif

// Another seed each time; the environment variable FERRY_TEST_SEED sets it.
uint64_t Seed() {
  const char* seed = std::getenv("FERRY_TEST_SEED");
  return seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device()();
}

TEST(SimulationTest, EveryScheduleHolds) {
  const Options options{.schedules = kSchedules, .seed = Seed()};
  std::cout << "FERRY_TEST_SEED=" << options.seed << std::endl;
  const Summary summary = Simulate(options, std::cout);
  WriteSummary(summary, std::cout);
  EXPECT_FALSE(summary.failed);
  EXPECT_EQ(summary.schedules, kSchedules);
  // A schedule that holds because nothing happens in it shows nothing.
  for (size_t i = 0; i < kEvents; ++i) {
    EXPECT_GT(summary.total.events[i], 0u) << EventName(static_cast<Event>(i));
  }
  EXPECT_GT(summary.total.ended[0], summary.total.calls / 4);
}

TEST(SimulationTest, ASeedReplays) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    std::ostringstream first;
    std::ostringstream second;
    const Outcome one = World(seed, &first).Run();
    const Outcome two = World(seed, &second).Run();
    EXPECT_EQ(one.fingerprint, two.fingerprint) << "seed " << seed;
    EXPECT_EQ(first.str(), second.str()) << "seed " << seed;
  }
}

TEST(SimulationTest, SaysHowToRunAFailureAgain) {
  EXPECT_EQ(ReplayCommand(17), "./dev simulate --schedules=1 --seed=17 --trace");
}

}  // namespace
}  // namespace ferry::simulation
