#include "ferry/rpc/inline_guard.h"

#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using transport::Instant;

constexpr Instant kStart{1'000'000'000};

const InlineGuard::Options kOptions{
    .budget = absl::Microseconds(50), .tolerance = 3, .time_away = absl::Seconds(10)};

bool Report(InlineGuard& guard, absl::Duration took) { return guard.Report(kStart, kStart + took); }

TEST(InlineGuardTest, LetsQuickMethodsRunInline) {
  InlineGuard guard(kOptions);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(Report(guard, absl::Microseconds(50)));
  EXPECT_TRUE(guard.MayRunInline(kStart));
  EXPECT_EQ(guard.times_moved(), 0u);
}

TEST(InlineGuardTest, MovesAMethodThatOverstaysAgainAndAgain) {
  InlineGuard guard(kOptions);
  EXPECT_FALSE(Report(guard, absl::Microseconds(51)));
  EXPECT_FALSE(Report(guard, absl::Microseconds(51)));
  EXPECT_TRUE(guard.MayRunInline(kStart));
  EXPECT_TRUE(Report(guard, absl::Microseconds(51)));
  EXPECT_FALSE(guard.MayRunInline(kStart + absl::Seconds(9)));
  EXPECT_EQ(guard.times_moved(), 1u);
}

TEST(InlineGuardTest, TakesTheMethodBackAfterATime) {
  InlineGuard guard(kOptions);
  for (int i = 0; i < 3; ++i) Report(guard, absl::Milliseconds(1));
  EXPECT_TRUE(guard.MayRunInline(kStart + absl::Milliseconds(1) + absl::Seconds(10)));
  // And moves it again no sooner than the first time.
  EXPECT_FALSE(Report(guard, absl::Milliseconds(1)));
  EXPECT_FALSE(Report(guard, absl::Milliseconds(1)));
  EXPECT_TRUE(Report(guard, absl::Milliseconds(1)));
  EXPECT_EQ(guard.times_moved(), 2u);
}

TEST(InlineGuardTest, ForgivesAnOverstayForEachCallThatKeepsTheBudget) {
  InlineGuard guard(kOptions);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Report(guard, absl::Milliseconds(1)));
    EXPECT_FALSE(Report(guard, absl::Microseconds(1)));
  }
}

}  // namespace
}  // namespace ferry
