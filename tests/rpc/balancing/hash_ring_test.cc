#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/hashing.h"
#include "gtest/gtest.h"
#include "tests/rpc/balancing/candidates.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using test::Candidates;

constexpr uint64_t kKeys = 20'000;

BalancingOptions Hashing() { return {.policy = BalancingPolicy::kConsistentHash}; }

// Where each key goes, by the name of the server.
std::vector<std::string> Owners(const Picker& picker, Candidates& candidates) {
  std::vector<std::string> owners;
  owners.reserve(kKeys);
  for (uint64_t key = 0; key < kKeys; ++key) {
    owners.emplace_back(candidates[picker.Pick({.hash_key = Scatter(key)}).value()].name);
  }
  return owners;
}

// Clients of every release and machine agree on where a key goes: these are from another program, in Python.
TEST(HashingTest, GivesTheSameForEver) {
  EXPECT_EQ(HashOf(""), 0xc3817c016ba4ff30u);
  EXPECT_EQ(HashOf("10.0.0.1:7000"), 0xc060321bc8526c97u);
  Candidates candidates = Candidates::Equal(5);
  const auto picker = candidates.MakePicker(Hashing());
  EXPECT_EQ(picker->Pick({.hash_key = HashOf("user-1")}), 4);
  EXPECT_EQ(picker->Pick({.hash_key = HashOf("user-2")}), 4);
  EXPECT_EQ(picker->Pick({.hash_key = HashOf("user-3")}), 2);
}

TEST(HashRingTest, OrderAndInstanceDoNotMatter) {
  Candidates candidates = Candidates::Equal(20);
  const auto owners = Owners(*candidates.MakePicker(Hashing()), candidates);
  std::reverse(candidates.all().begin(), candidates.all().end());
  EXPECT_EQ(Owners(*candidates.MakePicker(Hashing()), candidates), owners);
}

TEST(HashRingTest, OnlyTheKeysOfAServerThatLeavesMove) {
  Candidates candidates = Candidates::Equal(20);
  const auto before = Owners(*candidates.MakePicker(Hashing()), candidates);
  for (size_t gone = 0; gone < 20; ++gone) {
    candidates[gone].usable = false;
    const auto after = Owners(*candidates.MakePicker(Hashing()), candidates);
    candidates[gone].usable = true;
    uint64_t moved = 0;
    for (uint64_t key = 0; key < kKeys; ++key) {
      if (before[key] == after[key]) continue;
      ++moved;
      EXPECT_EQ(before[key], candidates[gone].name);
    }
    // 100 points: its part is 1/20, give or take 10 % of that.
    EXPECT_NEAR(static_cast<double>(moved), kKeys / 20.0, 0.5 * kKeys / 20.0);
    EXPECT_EQ(std::count(before.begin(), before.end(), candidates[gone].name), moved);
  }
}

TEST(HashRingTest, AChangeOfWeightMovesKeysOnlyToItOrFromIt) {
  Candidates candidates = Candidates::Equal(20);
  const auto before = Owners(*candidates.MakePicker(Hashing()), candidates);
  candidates[3].weight_factor = 0.25;
  const auto less = Owners(*candidates.MakePicker(Hashing()), candidates);
  candidates[3].weight_factor = 1;
  candidates[3].weight = 4;
  const auto more = Owners(*candidates.MakePicker(Hashing()), candidates);
  for (uint64_t key = 0; key < kKeys; ++key) {
    EXPECT_TRUE(before[key] == less[key] || before[key] == "server-3");
    EXPECT_TRUE(before[key] == more[key] || more[key] == "server-3");
  }
  const auto share = [](const std::vector<std::string>& owners) {
    return static_cast<double>(std::count(owners.begin(), owners.end(), "server-3")) / kKeys;
  };
  // Within 60 % of what is due: a share of p points varies by 1/sqrt(p), and p is 25 at least.
  EXPECT_NEAR(share(less), 0.25 / 19.25, 0.6 * 0.25 / 19.25);
  EXPECT_NEAR(share(before), 1 / 20.0, 0.6 / 20.0);
  EXPECT_NEAR(share(more), 4 / 23.0, 0.3 * 4 / 23.0);
}

TEST(HashRingTest, ServersGetTheirSharesOfTheKeys) {
  Candidates candidates = Candidates::Equal(100);
  const auto owners = Owners(*candidates.MakePicker(Hashing()), candidates);
  for (Candidate& candidate : candidates.all()) {
    const auto count = static_cast<double>(std::count(owners.begin(), owners.end(), candidate.name));
    // Names, points and keys are constant: so is this. A standard deviation is 10 % by the points and 7 % by
    // the keys.
    EXPECT_NEAR(count, kKeys / 100.0, 0.5 * kKeys / 100.0) << candidate.name;
  }
}

TEST(HashRingTest, AHotKeyOverloadsNobody) {
  test::Random random;
  Candidates candidates = Candidates::Equal(20);
  const auto picker = candidates.MakePicker(Hashing());
  for (uint64_t calls = 0; calls < 4000; ++calls) {
    // Half of the calls have one key.
    const uint64_t key = random.Coin() ? 42 : random.Number(0, UINT64_MAX);
    const size_t index = picker->Pick({.hash_key = Scatter(key)}).value();
    candidates.load(index).OnStart();
    // The total is of the last n picks' beginning: it is at most what it is now.
    const double due = static_cast<double>(calls + 1) / 20;
    EXPECT_LE(candidates.load(index).in_flight(), std::max(4.0, std::ceil(1.25 * due)));
  }
}

TEST(HashRingTest, AWeightIsDueMoreOfTheLoad) {
  Candidates candidates({1, 1, 1, 1, 4});
  const auto picker = candidates.MakePicker(Hashing());
  for (int calls = 0; calls < 800; ++calls) {
    candidates.load(picker->Pick({.hash_key = 42}).value()).OnStart();
  }
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_LE(candidates.load(i).in_flight(), std::ceil(1.25 * 100.0 * candidates[i].weight)) << i;
  }
}

TEST(HashRingTest, WithoutABoundAKeyStays) {
  Candidates candidates = Candidates::Equal(5);
  BalancingOptions options = Hashing();
  options.load_bound = std::numeric_limits<double>::infinity();
  const auto picker = candidates.MakePicker(options);
  const size_t home = picker->Pick({.hash_key = 42}).value();
  for (int i = 0; i < 1000; ++i) {
    const size_t index = picker->Pick({.hash_key = 42}).value();
    EXPECT_EQ(index, home);
    candidates.load(index).OnStart();
  }
}

TEST(HashRingTest, StaysHomeBelowTheFloor) {
  Candidates candidates = Candidates::Equal(5);
  const auto picker = candidates.MakePicker(Hashing());
  const size_t home = picker->Pick({.hash_key = 42}).value();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(picker->Pick({.hash_key = 42}), home);
    candidates.load(home).OnStart();
  }
  EXPECT_NE(picker->Pick({.hash_key = 42}), home);
}

// So that the retries of a key find the same second server, and its cache.
TEST(HashRingTest, AnExcludedServersKeyGoesWhereItWouldWithoutIt) {
  Candidates candidates = Candidates::Equal(10);
  const auto picker = candidates.MakePicker(Hashing());
  for (uint64_t key = 0; key < 200; ++key) {
    const size_t home = picker->Pick({.hash_key = Scatter(key)}).value();
    const size_t exclude[] = {home};
    const std::optional<size_t> second = picker->Pick({.hash_key = Scatter(key), .exclude = exclude});
    candidates[home].usable = false;
    EXPECT_EQ(candidates.MakePicker(Hashing())->Pick({.hash_key = Scatter(key)}), second);
    candidates[home].usable = true;
  }
}

TEST(HashRingTest, ACallWithoutAKeyGoesAnywhere) {
  test::Random random;
  Candidates candidates = Candidates::Equal(10);
  const auto counts = test::CountPicks(*candidates.MakePicker(Hashing()), 10, 1000, random);
  for (const uint64_t count : counts) EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace ferry
