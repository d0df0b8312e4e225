#include "ferry/rpc/balancing/retry_budget.h"

#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using testing::HasSubstr;

int Drain(RetryBudget& budget, transport::Instant now) {
  int taken = 0;
  while (budget.TryWithdraw(now)) ++taken;
  return taken;
}

TEST(RetryBudgetTest, IsFullAtFirst) {
  transport::ManualClock clock;
  RetryBudget budget({.max_tokens = 100});
  EXPECT_EQ(Drain(budget, clock.Now()), 100);
  EXPECT_EQ(budget.refused(), 1);
}

TEST(RetryBudgetTest, CallsBringTheirShare) {
  transport::ManualClock clock;
  RetryBudget budget({.share = 0.2});
  Drain(budget, clock.Now());
  for (int i = 0; i < 4; ++i) budget.OnCall();
  EXPECT_FALSE(budget.TryWithdraw(clock.Now()));
  budget.OnCall();
  EXPECT_TRUE(budget.TryWithdraw(clock.Now()));
  EXPECT_FALSE(budget.TryWithdraw(clock.Now()));
}

TEST(RetryBudgetTest, TimeBringsTheMinimum) {
  transport::ManualClock clock;
  RetryBudget budget({.min_per_second = 10});
  Drain(budget, clock.Now());
  clock.Advance(absl::Milliseconds(99));
  EXPECT_FALSE(budget.TryWithdraw(clock.Now()));
  clock.Advance(absl::Milliseconds(2));
  EXPECT_TRUE(budget.TryWithdraw(clock.Now()));
  EXPECT_FALSE(budget.TryWithdraw(clock.Now()));
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(Drain(budget, clock.Now()), 30);
}

TEST(RetryBudgetTest, HoldsNoMoreThanTheMost) {
  transport::ManualClock clock;
  RetryBudget budget({.max_tokens = 5});
  Drain(budget, clock.Now());
  for (int i = 0; i < 1000; ++i) budget.OnCall();
  EXPECT_EQ(budget.tokens(), 5);
  clock.Advance(absl::Hours(24 * 365));
  EXPECT_EQ(Drain(budget, clock.Now()), 5);
}

TEST(RetryBudgetTest, MayGiveNothing) {
  transport::ManualClock clock;
  RetryBudget budget({.share = 0, .min_per_second = 0, .max_tokens = 1});
  EXPECT_TRUE(budget.TryWithdraw(clock.Now()));
  for (int i = 0; i < 1000; ++i) budget.OnCall();
  clock.Advance(absl::Hours(1));
  EXPECT_FALSE(budget.TryWithdraw(clock.Now()));
}

TEST(RetryBudgetTest, TimeThatGoesBackBringsNothing) {
  RetryBudget budget({});
  Drain(budget, {5'000'000'000});
  EXPECT_FALSE(budget.TryWithdraw({1'000'000'000}));
  EXPECT_FALSE(budget.TryWithdraw({5'000'000'000}));
}

TEST(RetryBudgetTest, AnOutageCostsNoMoreThanTheBound) {
  test::Random random;
  transport::ManualClock clock;
  const RetryBudget::Options options;
  RetryBudget budget(options);
  const transport::Instant start = clock.Now();
  uint64_t calls = 0;
  uint64_t retries = 0;
  for (int i = 0; i < 100'000; ++i) {
    clock.Advance(absl::Microseconds(random.Number(0, 2000)));
    budget.OnCall();
    ++calls;
    // All fail, and each is tried up to four times more.
    for (int attempt = 0; attempt < 4 && budget.TryWithdraw(clock.Now()); ++attempt) ++retries;
    const double bound = options.max_tokens +
                         options.min_per_second * absl::ToDoubleSeconds(clock.Now() - start) +
                         options.share * static_cast<double>(calls);
    ASSERT_LE(static_cast<double>(retries), bound + 0.001);
  }
  // And what is allowed is used.
  EXPECT_GT(retries, calls / 5);
}

TEST(RetryBudgetTest, ThreadsTogetherKeepTheBound) {
  constexpr int kThreads = 4;
  constexpr int kCalls = 25'000;
  RetryBudget budget({.share = 0.25, .min_per_second = 1'000, .max_tokens = 50});
  std::atomic<int64_t> retries{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kCalls; ++i) {
        budget.OnCall();
        // All threads together: one second.
        if (budget.TryWithdraw({1 + int64_t{i} * 40'000})) retries.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(retries.load(), 50 + 1'000 + kThreads * kCalls / 4);
  // Nothing is lost but the part of a token, or what came while it was full.
  EXPECT_GE(retries.load(), kThreads * kCalls / 4 - 50);
  EXPECT_EQ(retries.load() + static_cast<int64_t>(budget.refused()), kThreads * kCalls);
}

TEST(RetryBudgetTest, RefusesOptionsOutOfBounds) {
  struct Case {
    const char* name;
    RetryBudget::Options options;
    const char* message;
  };
  const Case kCases[] = {
      {"negative share", {.share = -0.1}, "share is -0.1, must be in [0, 1000]"},
      {"no share", {.share = std::numeric_limits<double>::quiet_NaN()}, "share is nan"},
      {"negative minimum", {.min_per_second = -1}, "min_per_second is -1"},
      {"no tokens", {.max_tokens = 0.5}, "max_tokens is 0.5, must be in [1, 1e+06]"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(RetryBudget::Check(c.options).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(RetryBudget::Check(c.options).message(), HasSubstr(c.message));
  }
  EXPECT_TRUE(RetryBudget::Check({}).ok());
}

}  // namespace
}  // namespace ferry
