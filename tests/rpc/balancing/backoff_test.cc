#include "ferry/rpc/balancing/backoff.h"

#include <algorithm>
#include <limits>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

TEST(BackoffTest, FillsAWindowThatDoublesUpToTheMost) {
  test::Random random;
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(1), random.Number(1, 1u << 30));
  constexpr int kFailures[] = {0, 1, 2, 3, 4, 100, 10'000, std::numeric_limits<int>::max()};
  for (const int failures : kFailures) {
    SCOPED_TRACE(failures);
    const absl::Duration bound = failures < 4 ? absl::Milliseconds(100 << failures) : absl::Seconds(1);
    absl::Duration least = absl::InfiniteDuration();
    absl::Duration most = absl::ZeroDuration();
    absl::Duration sum;
    for (int i = 0; i < 1000; ++i) {
      const absl::Duration wait = backoff.Wait(failures);
      least = std::min(least, wait);
      most = std::max(most, wait);
      sum += wait;
    }
    EXPECT_GE(least, absl::ZeroDuration());
    EXPECT_LE(most, bound);
    // None of 1000 in a twentieth of the window: (19/20)^1000, less than 1e-22.
    EXPECT_LT(least, bound / 20);
    EXPECT_GT(most, bound * 19 / 20);
    // The mean of 1000 varies by 0.9 % of the bound.
    EXPECT_NEAR(absl::FDivDuration(sum / 1000, bound), 0.5, 0.06);
  }
}

TEST(BackoffTest, FollowsFromTheSeed) {
  Backoff a(absl::Milliseconds(100), absl::Seconds(20), 42);
  Backoff b(absl::Milliseconds(100), absl::Seconds(20), 42);
  Backoff other(absl::Milliseconds(100), absl::Seconds(20), 43);
  bool differs = false;
  for (int i = 0; i < 10; ++i) {
    const absl::Duration wait = a.Wait(i);
    EXPECT_EQ(wait, b.Wait(i));
    differs = differs || other.Wait(i) != wait;
  }
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace ferry
