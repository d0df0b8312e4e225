// What holds for every policy, and how groups of servers share the calls.
#include "ferry/rpc/balancing/balancer.h"

#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/balancing/hashing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/balancing/candidates.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using test::Candidates;
using test::CountPicks;
using testing::HasSubstr;

class EveryPolicyTest : public testing::TestWithParam<BalancingPolicy> {
 protected:
  std::shared_ptr<const Picker> PickerOf(Candidates& candidates) {
    return candidates.MakePicker({.policy = GetParam()});
  }
  std::optional<size_t> Pick(const Picker& picker, absl::Span<const size_t> exclude = {}) {
    const uint64_t random = random_.Number(0, UINT64_MAX);
    return picker.Pick({.random = random, .hash_key = Scatter(random), .exclude = exclude});
  }

  test::Random random_;
};

std::string NameOf(const testing::TestParamInfo<BalancingPolicy>& info) {
  switch (info.param) {
    case BalancingPolicy::kPickFirst:
      return "PickFirst";
    case BalancingPolicy::kRoundRobin:
      return "RoundRobin";
    case BalancingPolicy::kLeastLoaded:
      return "LeastLoaded";
    case BalancingPolicy::kConsistentHash:
      return "ConsistentHash";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicyTest,
                         testing::Values(BalancingPolicy::kPickFirst, BalancingPolicy::kRoundRobin,
                                         BalancingPolicy::kLeastLoaded, BalancingPolicy::kConsistentHash),
                         NameOf);

TEST_P(EveryPolicyTest, PicksNoneOfNone) {
  Candidates none({});
  EXPECT_EQ(Pick(*PickerOf(none)), std::nullopt);
}

TEST_P(EveryPolicyTest, PicksTheOnlyOneUnlessItIsExcluded) {
  Candidates one({3});
  const auto picker = PickerOf(one);
  EXPECT_EQ(Pick(*picker), 0);
  const size_t exclude[] = {0};
  EXPECT_EQ(Pick(*picker, exclude), std::nullopt);
}

TEST_P(EveryPolicyTest, NeverPicksWhatIsUnusableOrExcluded) {
  Candidates candidates({1, 5, 1, 100, 2, 1});
  candidates[1].usable = false;
  candidates[4].usable = false;
  const auto picker = PickerOf(candidates);
  const size_t exclude[] = {3, 0, 17};
  for (int i = 0; i < 1000; ++i) {
    const std::optional<size_t> index = Pick(*picker, exclude);
    EXPECT_TRUE(index == 2 || index == 5) << index.value_or(99);
  }
  const size_t all_but_one[] = {5, 3, 0};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Pick(*picker, all_but_one), 2);
  const size_t all[] = {5, 3, 0, 2};
  EXPECT_EQ(Pick(*picker, all), std::nullopt);
}

TEST_P(EveryPolicyTest, PicksNoneIfAllAreUnusable) {
  Candidates candidates = Candidates::Equal(3);
  for (Candidate& candidate : candidates.all()) candidate.usable = false;
  EXPECT_EQ(Pick(*PickerOf(candidates)), std::nullopt);
}

// The heavy one leaves its draws to nobody, and yet a retry finds the other.
TEST_P(EveryPolicyTest, FindsAServerBesideOneWithNearlyAllTheWeight) {
  Candidates candidates({Candidate::kMaxWeight, 1});
  const auto picker = PickerOf(candidates);
  const size_t exclude[] = {0};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Pick(*picker, exclude), 1);
}

TEST_P(EveryPolicyTest, ClampsWeightsAndFactors) {
  Candidates candidates({0, std::numeric_limits<uint32_t>::max(), 1, 1, 1});
  candidates[2].weight_factor = 0;
  candidates[3].weight_factor = std::numeric_limits<double>::quiet_NaN();
  candidates[4].weight_factor = std::numeric_limits<double>::infinity();
  const auto picker = PickerOf(candidates);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(Pick(*picker).value(), 5);
  const size_t exclude[] = {1, 2, 3, 4};
  EXPECT_EQ(Pick(*picker, exclude), 0);
}

TEST_P(EveryPolicyTest, ManyThreadsPickWhilePickersAreReplaced) {
  Candidates candidates({1, 2, 3, 4, 5, 6, 7, 8});
  const auto balancer = Balancer::Create({.policy = GetParam()}).value();
  std::shared_ptr<const Picker> shared = balancer->MakePicker(candidates.all());
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<uint64_t> picks{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        const std::shared_ptr<const Picker> picker = std::atomic_load(&shared);
        for (int i = 0; i < 50; ++i) {
          const transport::Instant now = {(round * 50 + i) * 1000};
          const size_t exclude[] = {static_cast<size_t>(t)};
          const std::optional<size_t> index = picker->Pick(
              {.now = now, .random = ThreadRandom(), .hash_key = ThreadRandom(), .exclude = exclude});
          ASSERT_TRUE(index.has_value() && *index != static_cast<size_t>(t));
          candidates.load(*index).OnStart();
          candidates.load(*index).OnEnd(now + absl::Microseconds(i), now, /*ok=*/i % 10 != 0);
          picks.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    candidates[static_cast<size_t>(i) % 4 + 4].usable = i % 3 == 0;
    std::atomic_store(&shared, balancer->MakePicker(candidates.all()));
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t ended = 0;
  for (size_t i = 0; i < 8; ++i) ended += candidates.load(i).successes() + candidates.load(i).failures();
  EXPECT_EQ(ended, picks.load());
  EXPECT_EQ(ended, 4 * 50 * 50);
}

TEST(PickFirstTest, PicksTheFirstInOrder) {
  Candidates candidates({1, 100, 100});
  candidates[0].usable = false;
  const auto picker = candidates.MakePicker({.policy = BalancingPolicy::kPickFirst});
  EXPECT_EQ(picker->Pick({.random = 12345}), 1);
  const size_t exclude[] = {1};
  EXPECT_EQ(picker->Pick({.exclude = exclude}), 2);
}

TEST(BalancerTest, RefusesOptionsOutOfBounds) {
  struct Case {
    const char* name;
    BalancingOptions options;
    const char* message;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Case kCases[] = {
      {"bound of 1", {.load_bound = 1}, "load_bound is 1, must be over 1"},
      {"no bound", {.load_bound = nan}, "load_bound is nan"},
      {"no floor", {.load_bound_floor = 0}, "load_bound_floor is 0, must be at least 1"},
      {"enough is nothing", {.enough_of_priority = 0}, "enough_of_priority is 0"},
      {"enough is more than all", {.enough_of_priority = 1.5}, "enough_of_priority is 1.5"},
      {"negative callers", {.locality = "a", .share_of_callers = -1}, "share_of_callers is -1"},
      {"callers nowhere", {.share_of_callers = 0.5}, "share_of_callers is 0.5, but locality is empty"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const auto balancer = Balancer::Create(c.options);
    EXPECT_EQ(balancer.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(balancer.status().message(), HasSubstr(c.message));
  }
}

// ---------------------------------------------------------------- Priorities and localities

// Of `kPicks` random picks, a share s comes out within 6 standard deviations, sqrt(s * (1 - s) / kPicks),
// which is at most 0.015.
constexpr uint64_t kPicks = 40'000;
constexpr double kSlack = 0.015;

class GroupsTest : public testing::Test {
 protected:
  // What share of the picks goes to the servers from `begin` to `end`.
  double ShareOf(const BalancingOptions& options, size_t begin, size_t end) {
    const auto counts =
        CountPicks(*candidates_.MakePicker(options), candidates_.all().size(), kPicks, random_);
    uint64_t sum = 0;
    for (size_t i = begin; i < end; ++i) sum += counts[i];
    return static_cast<double>(sum) / kPicks;
  }

  test::Random random_;
  Candidates candidates_ = Candidates::Equal(20);
};

TEST_F(GroupsTest, UsesTheSmallestPriorityWhileEnoughOfItIsUsable) {
  for (size_t i = 0; i < 10; ++i) candidates_[i].priority = 5;
  for (size_t i = 10; i < 20; ++i) candidates_[i].priority = 9;
  for (size_t unusable = 0; unusable <= 10; ++unusable) {
    SCOPED_TRACE(unusable);
    const double usable = 1 - static_cast<double>(unusable) / 10;
    const double share = ShareOf({.enough_of_priority = 0.7}, 0, 10);
    if (usable >= 0.7) {
      EXPECT_EQ(share, 1);
    } else {
      EXPECT_NEAR(share, usable / 0.7, kSlack);
    }
    if (unusable < 10) candidates_[unusable].usable = false;
  }
}

TEST_F(GroupsTest, ALittleOfEachPriorityIsSharedByAll) {
  for (size_t i = 10; i < 20; ++i) candidates_[i].priority = 1;
  for (size_t i = 0; i < 20; ++i) candidates_[i].usable = i == 0 || i >= 17;
  // A tenth of one, three tenths of the other.
  EXPECT_NEAR(ShareOf({}, 0, 1), 0.25, kSlack);
}

TEST_F(GroupsTest, StaysInItsLocalityWhileThatHasItsShare) {
  for (size_t i = 0; i < 20; ++i) candidates_[i].locality = i < 10 ? "eu/a" : "eu/b";
  EXPECT_EQ(ShareOf({.locality = "eu/a"}, 0, 10), 1);
  EXPECT_EQ(ShareOf({.locality = "eu/b"}, 10, 20), 1);
  // Nobody is in the client's own.
  EXPECT_NEAR(ShareOf({.locality = "us/c"}, 0, 10), 0.5, kSlack);
}

TEST_F(GroupsTest, SpillsOverWhatItsLocalityIsNotDue) {
  for (size_t i = 0; i < 20; ++i) candidates_[i].locality = i < 4 ? "eu/a" : "eu/b";
  // A fifth of the weight, for half the callers.
  EXPECT_NEAR(ShareOf({.locality = "eu/a"}, 0, 4), 0.4, kSlack);
  EXPECT_NEAR(ShareOf({.locality = "eu/a", .share_of_callers = 0.25}, 0, 4), 0.8, kSlack);
  EXPECT_EQ(ShareOf({.locality = "eu/a", .share_of_callers = 0.2}, 0, 4), 1);
  // Half of them are away: 2 of 18.
  candidates_[0].usable = candidates_[1].usable = false;
  EXPECT_NEAR(ShareOf({.locality = "eu/a"}, 0, 4), 2.0 / 9, kSlack);
}

TEST_F(GroupsTest, WeightsDecideWhatIsEnough) {
  for (size_t i = 0; i < 20; ++i) candidates_[i].priority = i < 10 ? 0 : 1;
  candidates_[0].weight = 91;
  for (size_t i = 1; i < 10; ++i) candidates_[i].usable = false;
  EXPECT_EQ(ShareOf({}, 0, 1), 1);
}

TEST_F(GroupsTest, AKeyStaysWithItsGroup) {
  for (size_t i = 0; i < 20; ++i) candidates_[i].locality = i < 4 ? "eu/a" : "eu/b";
  const auto picker =
      candidates_.MakePicker({.policy = BalancingPolicy::kConsistentHash, .locality = "eu/a"});
  int near = 0;
  for (uint64_t key = 0; key < 1000; ++key) {
    const std::optional<size_t> index = picker->Pick({.random = 1, .hash_key = Scatter(key)});
    EXPECT_EQ(picker->Pick({.random = random_.Number(0, UINT64_MAX), .hash_key = Scatter(key)}), index);
    if (*index < 4) ++near;
  }
  EXPECT_NEAR(near, 400, 6 * std::sqrt(1000 * 0.4 * 0.6));
}

TEST_F(GroupsTest, ARetryLeavesAGroupThatIsTriedOut) {
  candidates_[0].locality = "eu/a";
  const auto picker = candidates_.MakePicker({.locality = "eu/a", .share_of_callers = 0.01});
  EXPECT_EQ(picker->Pick({}), 0);
  const size_t exclude[] = {0};
  EXPECT_NE(picker->Pick({.exclude = exclude}).value(), 0);
}

}  // namespace
}  // namespace ferry
