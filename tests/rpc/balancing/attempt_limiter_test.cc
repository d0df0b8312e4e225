#include "ferry/rpc/balancing/attempt_limiter.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

TEST(AttemptLimiterTest, LetsABurstPassAndSpacesTheRest) {
  transport::ManualClock clock;
  AttemptLimiter limiter(/*per_second=*/100, /*burst=*/3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Reserve(clock.Now()), absl::ZeroDuration());
  for (int i = 1; i <= 1000; ++i) EXPECT_EQ(limiter.Reserve(clock.Now()), absl::Milliseconds(10) * i);
}

TEST(AttemptLimiterTest, RegainsTheBurstWithTime) {
  transport::ManualClock clock;
  AttemptLimiter limiter(/*per_second=*/100, /*burst=*/3);
  for (int i = 0; i < 3; ++i) limiter.Reserve(clock.Now());
  clock.Advance(absl::Milliseconds(20));
  EXPECT_EQ(limiter.Reserve(clock.Now()), absl::ZeroDuration());
  EXPECT_EQ(limiter.Reserve(clock.Now()), absl::ZeroDuration());
  EXPECT_EQ(limiter.Reserve(clock.Now()), absl::Milliseconds(10));
  clock.Advance(absl::Hours(1));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Reserve(clock.Now()), absl::ZeroDuration());
  EXPECT_EQ(limiter.Reserve(clock.Now()), absl::Milliseconds(10));
}

TEST(AttemptLimiterTest, ClampsItsLimits) {
  AttemptLimiter none(0, 0);
  EXPECT_EQ(none.Reserve({1}), absl::ZeroDuration());
  EXPECT_EQ(none.Reserve({1}), absl::Seconds(1));
  AttemptLimiter many(std::numeric_limits<uint32_t>::max(), 1);
  EXPECT_EQ(many.Reserve({1}), absl::ZeroDuration());
  EXPECT_EQ(many.Reserve({1}), absl::Nanoseconds(1));
}

TEST(AttemptLimiterTest, MayBeAGlobal) {
  static constinit AttemptLimiter limiter;
  static_assert(std::is_trivially_destructible_v<AttemptLimiter>);
  EXPECT_EQ(limiter.Reserve({1}), absl::ZeroDuration());
}

// A list may change by hundreds of servers a second, and a thousand channels lose their servers at once.
TEST(AttemptLimiterTest, LetsAThousandTryWithinASecondUnlessItIsToldOtherwise) {
  transport::ManualClock clock;
  AttemptLimiter limiter;
  absl::Duration last;
  for (int i = 0; i < 1000; ++i) last = limiter.Reserve(clock.Now());
  EXPECT_LE(last, absl::Seconds(1));
  // All at once would be a flood.
  EXPECT_GE(last, absl::Milliseconds(900));
}

// Whatever the threads do, in any time t there are at most burst + t * per_second attempts.
TEST(AttemptLimiterTest, ThreadsTogetherKeepTheLimit) {
  test::Random random;
  constexpr int kThreads = 4;
  constexpr uint32_t kBurst = 10;
  AttemptLimiter limiter(/*per_second=*/1000, kBurst);
  std::mutex mutex;
  std::vector<int64_t> attempts;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<int64_t> own;
      for (int i = 0; i < 1000; ++i) {
        const int64_t now = 1 + (int64_t{i} * 700 + t) * 1000;
        own.push_back(now + absl::ToInt64Nanoseconds(limiter.Reserve({now})));
      }
      const std::lock_guard<std::mutex> lock(mutex);
      attempts.insert(attempts.end(), own.begin(), own.end());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(attempts.begin(), attempts.end());
  // The threads' clocks differ by what they have run ahead of each other; late ones get later times.
  for (size_t i = kBurst; i < attempts.size(); ++i) {
    EXPECT_GE(attempts[i] - attempts[i - kBurst], 1'000'000);
  }
}

}  // namespace
}  // namespace ferry
