#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "ferry/rpc/balancing/balancer.h"
#include "gtest/gtest.h"
#include "tests/rpc/balancing/candidates.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using test::Candidates;

std::vector<size_t> PickMany(const Picker& picker, uint64_t picks) {
  std::vector<size_t> picked;
  picked.reserve(picks);
  for (uint64_t i = 0; i < picks; ++i) picked.push_back(picker.Pick({}).value());
  return picked;
}

TEST(RoundRobinTest, AnySoManyPicksAsServersMeetEachOnce) {
  for (const size_t count : {1, 2, 3, 4, 5, 8, 10, 89, 100, 1000}) {
    SCOPED_TRACE(count);
    Candidates candidates = Candidates::Equal(count);
    const auto picked = PickMany(*candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin}), 3 * count);
    for (size_t from = 0; from + count <= picked.size(); from += std::max<size_t>(1, count / 7)) {
      const auto begin = picked.begin() + static_cast<std::ptrdiff_t>(from);
      EXPECT_EQ(std::set<size_t>(begin, begin + static_cast<std::ptrdiff_t>(count)).size(), count);
    }
  }
}

// Has a picker of servers with these weights go round once: each must be picked as often as its weight says,
// and at every moment about as often as is its due by then.
void ExpectSpread(const std::vector<uint32_t>& weights) {
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  Candidates candidates(weights);
  const auto picked = PickMany(*candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin}), sum);
  std::vector<uint64_t> counts(weights.size());
  double worst = 0;
  for (size_t k = 0; k < picked.size(); ++k) {
    ++counts[picked[k]];
    const double due = static_cast<double>(k + 1) * weights[picked[k]] / static_cast<double>(sum);
    worst = std::max(worst, std::abs(static_cast<double>(counts[picked[k]]) - due));
  }
  // The logarithm is the order of the best that is possible. Of 40,000 random lists none came to half of
  // this.
  EXPECT_LE(worst, std::log2(sum) + 2);
  for (size_t i = 0; i < weights.size(); ++i) EXPECT_EQ(counts[i], weights[i]);
}

TEST(RoundRobinTest, KeepsWeightsExactlyAndSpreadsThem) {
  test::Random random;
  for (int round = 0; round < 20; ++round) {
    std::vector<uint32_t> weights;
    for (uint64_t i = random.Number(2, 30); i > 0; --i) {
      weights.push_back(static_cast<uint32_t>(random.Number(1, round < 10 ? 20 : 500)));
    }
    ExpectSpread(weights);
  }
}

// The step next to the golden ratio is a bad one with these.
TEST(RoundRobinTest, SpreadsWeightsWhoseNextStepHasBursts) {
  ExpectSpread({263, 2376});
  ExpectSpread({257, 2314});
  ExpectSpread({253, 2284});
  ExpectSpread({250, 2253});
}

// By the three-gap theorem the picks of one server are at most three different distances apart, whatever its
// weight.
TEST(RoundRobinTest, HasNoBursts) {
  Candidates candidates({500, 300, 120, 79, 1});
  const auto picked = PickMany(*candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin}), 5000);
  for (size_t server = 0; server < 5; ++server) {
    SCOPED_TRACE(server);
    std::set<size_t> distances;
    size_t last = picked.size();
    for (size_t k = 0; k < picked.size(); ++k) {
      if (picked[k] != server) continue;
      if (last < k) distances.insert(k - last);
      last = k;
    }
    EXPECT_LE(distances.size(), 3);
    EXPECT_GE(distances.size(), 1);
    // Only one with more than 0.38 of the weight is picked twice in a row.
    EXPECT_TRUE(server == 0 || *distances.begin() > 1);
  }
}

TEST(RoundRobinTest, AFactorLowersAShare) {
  Candidates candidates = Candidates::Equal(3);
  candidates[1].weight_factor = 0.1;
  const auto picked = PickMany(*candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin}), 2100);
  EXPECT_EQ(std::count(picked.begin(), picked.end(), 1), 100);
}

// Otherwise all clients that start together would begin with the same server.
TEST(RoundRobinTest, BeginsAnywhere) {
  Candidates candidates = Candidates::Equal(10);
  std::set<size_t> first;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const auto balancer = Balancer::Create({.policy = BalancingPolicy::kRoundRobin}, seed).value();
    first.insert(balancer->MakePicker(candidates.all())->Pick({}).value());
    first.insert(balancer->MakePicker(candidates.all())->Pick({}).value());
  }
  EXPECT_EQ(first.size(), 10);
}

TEST(RoundRobinTest, IsExactAmongThreads) {
  Candidates candidates({1, 2, 3, 4});
  const auto picker = candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin});
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) candidates.load(picker->Pick({}).value()).OnStart();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(candidates.load(i).in_flight(), (i + 1) * 4000);
}

TEST(RoundRobinTest, RetriesSpreadOverTheOthers) {
  test::Random random;
  Candidates candidates = Candidates::Equal(5);
  const auto picker = candidates.MakePicker({.policy = BalancingPolicy::kRoundRobin});
  std::vector<int> counts(5);
  const size_t exclude[] = {2};
  for (int i = 0; i < 4000; ++i)
    ++counts[picker->Pick({.random = random.Number(0, UINT64_MAX), .exclude = exclude}).value()];
  EXPECT_EQ(counts[2], 0);
  // The one after the excluded server gets its turns too: in a list of five at most twice its share.
  for (const size_t i : {0, 1, 3, 4}) {
    EXPECT_GE(counts[i], 800);
    EXPECT_LE(counts[i], 1600);
  }
}

}  // namespace
}  // namespace ferry
