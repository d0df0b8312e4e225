#include <cmath>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"
#include "tests/rpc/balancing/candidates.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using test::Candidates;
using test::ChiSquare;
using test::CountPicks;

class LeastLoadedTest : public testing::Test {
 protected:
  // Starts calls, as they are picked, and ends none.
  void StartCalls(const Picker& picker, Candidates& candidates, int calls) {
    for (int i = 0; i < calls; ++i) {
      candidates.load(picker.Pick({.now = clock_.Now(), .random = random_.Number(0, UINT64_MAX)}).value())
          .OnStart();
    }
  }

  test::Random random_;
  transport::ManualClock clock_;
};

TEST_F(LeastLoadedTest, PicksByWeightWhileAllAreIdle) {
  const std::vector<uint32_t> weights = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  Candidates candidates(weights);
  const auto counts = CountPicks(*candidates.MakePicker({}), weights.size(), 100'000, random_);
  std::vector<double> shares;
  shares.reserve(weights.size());
  for (const uint32_t weight : weights) shares.push_back(weight / 78.0);
  EXPECT_LT(ChiSquare(counts, shares), 11 + 6 * std::sqrt(22));
}

TEST_F(LeastLoadedTest, KeepsTheCallsInFlightEven) {
  Candidates candidates = Candidates::Equal(100);
  const auto picker = candidates.MakePicker({});
  StartCalls(*picker, candidates, 10'000);
  // The fullest of n is log2(log2(n)) + O(1) over the mean (Azar, Broder, Karlin, Upfal, 1994): one at random
  // would have it at 130 or so. The emptiest trails by a few.
  for (size_t i = 0; i < 100; ++i) {
    EXPECT_LE(candidates.load(i).in_flight(), 100 + 6);
    EXPECT_GE(candidates.load(i).in_flight(), 100 - 15);
  }
}

TEST_F(LeastLoadedTest, GivesEachInFlightWhatItsWeightIsDue) {
  Candidates candidates({1, 1, 1, 1, 4, 4, 4, 4, 20});
  const auto picker = candidates.MakePicker({});
  StartCalls(*picker, candidates, 4000);
  for (size_t i = 0; i < 9; ++i) {
    const double due = 100.0 * candidates[i].weight;
    EXPECT_NEAR(candidates.load(i).in_flight(), due, 0.1 * due + 6) << i;
  }
}

TEST_F(LeastLoadedTest, LeavesASlowServerAlone) {
  Candidates candidates = Candidates::Equal(3);
  for (size_t i = 0; i < 3; ++i) candidates.Complete(i, clock_.Now(), absl::Milliseconds(i == 1 ? 100 : 2));
  // The slow one is drawn second or first in two of three pairs, and loses each.
  EXPECT_EQ(CountPicks(*candidates.MakePicker({}), 3, 1000, random_, clock_.Now())[1], 0);
}

TEST_F(LeastLoadedTest, ASmallDifferenceInLatencyIsNoise) {
  Candidates candidates = Candidates::Equal(2);
  candidates.Complete(0, clock_.Now(), absl::Milliseconds(10));
  candidates.Complete(1, clock_.Now(), absl::Milliseconds(19));
  const auto counts = CountPicks(*candidates.MakePicker({}), 2, 10'000, random_, clock_.Now());
  EXPECT_NEAR(static_cast<double>(counts[0]), 5000, 6 * std::sqrt(10'000 * 0.25));
}

TEST_F(LeastLoadedTest, TriesASlowServerAgainWithOneCallAtATime) {
  Candidates candidates = Candidates::Equal(2);
  const auto picker = candidates.MakePicker({});
  candidates.Complete(1, clock_.Now(), absl::Milliseconds(100));
  candidates.Complete(0, clock_.Now(), absl::Milliseconds(2));
  // Ages by exp(-8): 100 ms become 0.03. The quick one is being asked all the time.
  clock_.Advance(absl::Seconds(40));
  candidates.Complete(0, clock_.Now(), absl::Milliseconds(2));
  StartCalls(*picker, candidates, 20);
  EXPECT_EQ(candidates.load(1).in_flight(), 1);
}

// What goes to a server that has stopped answering does not end: it gets no more.
TEST_F(LeastLoadedTest, ABlackHoleHoldsFewCalls) {
  Candidates candidates = Candidates::Equal(3);
  const auto picker = candidates.MakePicker({});
  std::deque<size_t> answered;
  for (int i = 0; i < 10'000; ++i) {
    const size_t index = picker->Pick({.now = clock_.Now(), .random = random_.Number(0, UINT64_MAX)}).value();
    candidates.load(index).OnStart();
    if (index != 0) answered.push_back(index);
    if (answered.size() > 20) {
      candidates.load(answered.front()).OnEnd(clock_.Now(), clock_.Now() + -absl::Milliseconds(5), true);
      answered.pop_front();
    }
    clock_.Advance(absl::Microseconds(500));
  }
  // It is never chosen with more in flight than another, which has at most 21.
  EXPECT_LE(candidates.load(0).in_flight(), 22);
}

// Until its first call has ended, a new server has no more in flight than the others.
TEST_F(LeastLoadedTest, DoesNotFloodANewServer) {
  Candidates candidates = Candidates::Equal(10);
  for (size_t i = 0; i < 9; ++i) candidates.Complete(i, clock_.Now(), absl::Milliseconds(10));
  for (size_t i = 0; i < 9; ++i) {
    for (int call = 0; call < 5; ++call) candidates.load(i).OnStart();
  }
  StartCalls(*candidates.MakePicker({}), candidates, 400);
  // 445 calls among 10 are 44.5 each. It is drawn 80 times or so.
  EXPECT_GE(candidates.load(9).in_flight(), 30);
  EXPECT_LE(candidates.load(9).in_flight(), 60);
}

TEST_F(LeastLoadedTest, AServerThatFailsFastGetsLittle) {
  Candidates candidates = Candidates::Equal(3);
  const auto picker = candidates.MakePicker({});
  int failed = 0;
  for (int i = 0; i < 10'000; ++i) {
    const size_t index = picker->Pick({.now = clock_.Now(), .random = random_.Number(0, UINT64_MAX)}).value();
    if (index == 0) ++failed;
    // Failing takes no time; answering takes 5 ms.
    candidates.Complete(index, clock_.Now(), index == 0 ? absl::ZeroDuration() : absl::Milliseconds(5),
                        index != 0);
    clock_.Advance(absl::Milliseconds(1));
  }
  // Ten seconds. A few at first, and then once in a decay time or so.
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 100);
}

TEST_F(LeastLoadedTest, PicksTheLessLoadedAmongThoseNotExcluded) {
  Candidates candidates = Candidates::Equal(3);
  candidates.load(1).OnStart();
  const auto picker = candidates.MakePicker({});
  const size_t exclude[] = {0};
  int counts[3] = {};
  for (int i = 0; i < 1000; ++i) {
    ++counts[picker->Pick({.random = random_.Number(0, UINT64_MAX), .exclude = exclude}).value()];
  }
  EXPECT_EQ(counts[0], 0);
  EXPECT_EQ(counts[1], 0);
}

}  // namespace
}  // namespace ferry
