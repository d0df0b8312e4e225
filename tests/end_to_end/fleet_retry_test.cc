// Calls that a channel to several servers sends again.
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/fleet_fixture.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

using FleetRetryTest = FleetFixture;

TEST_F(FleetRetryTest, AnIdempotentCallIsSentToAnotherServer) {
  Connect();
  hosts_[0].failing = true;
  TellAndConnect({&hosts_[0], &hosts_[1]});
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_GT(hosts_[0].calls(), 0);
}

TEST_F(FleetRetryTest, OneThatIsNotIdempotentIsNot) {
  Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin},
           .outliers = {.failures_in_a_row = 0, .max_failure_share = 1, .ramp_time = absl::ZeroDuration()}});
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  const int before[] = {hosts_[0].calls(), hosts_[1].calls()};
  hosts_[0].failing = true;
  int failed = 0;
  for (int i = 0; i < 20; ++i) failed += !stub_->EchoExecutor(Message()).ok();
  EXPECT_GT(failed, 0);
  EXPECT_EQ(failed, hosts_[0].calls() - before[0]);
  EXPECT_EQ(20 - failed, hosts_[1].calls() - before[1]);
}

TEST_F(FleetRetryTest, TriesNoMoreThanMaxAttempts) {
  Connect({.retry = {.max_attempts = 2}});
  for (Host& host : hosts_) host.failing = true;
  TellAndConnect({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_EQ(Call(), absl::UnavailableError("out of order"));
  EXPECT_EQ(hosts_[0].calls() + hosts_[1].calls() + hosts_[2].calls(), 2);
  EXPECT_EQ(failure_.execution(), CallFailure::EXECUTED);
  EXPECT_EQ(failure_.phase(), CallFailure::EXECUTING);
  EXPECT_EQ(failure_.attempt_count(), 2);
  ASSERT_EQ(failure_.attempts_size(), 2);
  EXPECT_NE(failure_.attempts(0).peer(), failure_.attempts(1).peer());
  EXPECT_EQ(failure_.peer(), failure_.attempts(1).peer());
  EXPECT_EQ(failure_.attempts(0).message(), "out of order");
}

TEST_F(FleetRetryTest, WaitsAsLongAsABusyServerAsks) {
  Connect();
  hosts_[0].busy = 1;
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), 2);
  hosts_[0].busy = 3;
  EXPECT_EQ(Call(), absl::UnavailableError("too much to do"));
  EXPECT_EQ(failure_.attempt_count(), 3);
}

TEST_F(FleetRetryTest, DoesNotComeBackToAServerThatAsksForMoreThanAMinute) {
  Connect();
  hosts_[0].busy = 1;
  hosts_[0].busy_for = absl::Minutes(2);
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::UnavailableError("too much to do"));
  EXPECT_EQ(hosts_[0].calls(), 1);
}

TEST_F(FleetRetryTest, RetriesDoNotOutgrowTheirBudget) {
  Connect({.outliers = {.failures_in_a_row = 0, .max_failure_share = 1},
           .retry_budget = {.share = 0, .min_per_second = 0, .max_tokens = 10}});
  for (Host& host : hosts_) host.failing = true;
  TellAndConnect({&hosts_[0], &hosts_[1], &hosts_[2]});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call().code(), StatusCode::kUnavailable);
  EXPECT_EQ(hosts_[0].calls() + hosts_[1].calls() + hosts_[2].calls(), 110);
}

}  // namespace
}  // namespace ferry::test::e2e
