#include "ferry/rpc/flood_guard.h"

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

TEST(FloodGuardTest, AcceptsAsManyAsTheLimitWithinASecond) {
  transport::ManualClock clock;
  FloodGuard guard(3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(guard.Count(clock.Now()).ok());
  const absl::Status status = guard.Count(clock.Now());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "4 control frames within a second, limit is 3");
}

TEST(FloodGuardTest, CountsEachSecondAnew) {
  transport::ManualClock clock;
  FloodGuard guard(2);
  for (int second = 0; second < 10; ++second) {
    EXPECT_TRUE(guard.Count(clock.Now()).ok());
    clock.Advance(absl::Milliseconds(999));
    EXPECT_TRUE(guard.Count(clock.Now()).ok());
    clock.Advance(absl::Milliseconds(1));
  }
  EXPECT_TRUE(guard.Count(clock.Now()).ok());
  EXPECT_TRUE(guard.Count(clock.Now()).ok());
  EXPECT_FALSE(guard.Count(clock.Now()).ok());
}

// The first second begins with the first frame, however late that is.
TEST(FloodGuardTest, BeginsWithTheFirstFrame) {
  transport::ManualClock clock;
  clock.Advance(absl::Milliseconds(700));
  FloodGuard guard(1);
  EXPECT_TRUE(guard.Count(clock.Now()).ok());
  clock.Advance(absl::Milliseconds(900));
  EXPECT_FALSE(guard.Count(clock.Now()).ok());
}

}  // namespace
}  // namespace ferry
