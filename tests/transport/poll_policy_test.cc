#include "ferry/transport/poll_policy.h"

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

constexpr absl::Duration kLimit = absl::Microseconds(50);
constexpr int64_t kLimitNanos = 50'000;

// How many times in a row `policy` blocks at once before it polls again. It is to poll in vain, or not.
int BlocksBeforePolling(PollPolicy& policy, bool found) {
  int blocks = 0;
  while (policy.Begin(0, 0) == 0) ++blocks;
  found ? policy.Found() : policy.Missed();
  return blocks;
}

TEST(PollPolicyTest, PollsForItsLimit) {
  const struct {
    const char* name;
    absl::Duration limit;
    int64_t nanos;
  } kCases[] = {
      {"some time", kLimit, kLimitNanos},
      {"a nanosecond", absl::Nanoseconds(1), 1},
      {"less than a nanosecond", absl::Nanoseconds(1) / 4, 0},
      {"zero", absl::ZeroDuration(), 0},
      {"negative", absl::Seconds(-1), 0},
      {"for ever", absl::InfiniteDuration(), absl::ToInt64Nanoseconds(PollPolicy::kMaxLimit)},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    PollPolicy policy(c.limit);
    EXPECT_EQ(policy.enabled(), c.nanos > 0);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(policy.Begin(0, 0), c.nanos);
      if (c.nanos > 0) policy.Found();
    }
  }
}

TEST(PollPolicyTest, BlocksAtOnceAfterLongBatches) {
  const struct {
    const char* name;
    std::vector<int64_t> worked;
    bool polls;
  } kCases[] = {
      {"no work", {0}, true},
      {"short batches", {5'000, 5'000, 5'000}, true},
      {"batches at the limit", std::vector<int64_t>(100, 60'000), true},
      {"one long batch", {200'000}, true},
      {"one very long batch", {300'000}, false},
      {"long batches", std::vector<int64_t>(10, 120'000), false},
      {"a short batch after long ones", {1'000'000, 0}, false},
      {"short batches after a long one", {300'000, 0, 0}, true},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    PollPolicy policy(kLimit);
    int64_t nanos = -1;
    for (const int64_t worked : c.worked) {
      nanos = policy.Begin(0, worked);
      if (nanos > 0) policy.Found();
    }
    EXPECT_EQ(nanos, c.polls ? kLimitNanos : 0);
  }
}

TEST(PollPolicyTest, PollsEverMoreSeldomInVain) {
  PollPolicy policy(kLimit);
  for (const int blocks : {0, 1, 3, 7, 15, 31, 63, 63, 63}) {
    EXPECT_EQ(BlocksBeforePolling(policy, /*found=*/false), blocks);
  }
}

TEST(PollPolicyTest, PollsEachTimeOnceThatHasPaid) {
  PollPolicy policy(kLimit);
  for (const int blocks : {0, 1, 3}) EXPECT_EQ(BlocksBeforePolling(policy, /*found=*/false), blocks);
  EXPECT_EQ(BlocksBeforePolling(policy, /*found=*/true), 7);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(BlocksBeforePolling(policy, /*found=*/true), 0);
  // And begins anew to back off.
  for (const int blocks : {0, 1, 3}) EXPECT_EQ(BlocksBeforePolling(policy, /*found=*/false), blocks);
}

// When `policy`, asked each millisecond from `now` on, polls again.
int64_t PollsAgainAt(PollPolicy& policy, int64_t now) {
  while (policy.Begin(now, 0) == 0) now += 1'000'000;
  policy.Found();
  return now;
}

TEST(PollPolicyTest, LeavesACrowdedProcessorToOthersForAWhile) {
  constexpr int64_t kStart = 1'000'000'000'000;
  constexpr int64_t kMilli = 1'000'000;
  PollPolicy policy(kLimit);
  int64_t now = kStart;
  // Each time that the processor is still crowded, for longer.
  for (const int64_t pause : {10, 20, 40, 80, 80}) {
    EXPECT_GT(policy.Begin(now, 0), 0);
    EXPECT_TRUE(policy.GoesOn(now, now + 199'999));
    EXPECT_FALSE(policy.GoesOn(now, now + 200'000));
    now += 200'000;
    EXPECT_EQ(PollsAgainAt(policy, now) - now, pause * kMilli);
    now += pause * kMilli;
  }
  // And not once it was not for as long.
  now += 80 * kMilli;
  EXPECT_GT(policy.Begin(now, 0), 0);
  EXPECT_FALSE(policy.GoesOn(now, now + kMilli));
  EXPECT_EQ(PollsAgainAt(policy, now + kMilli) - now, 11 * kMilli);
}

}  // namespace
}  // namespace ferry::transport
