// How a fleet comes back to a server that was gone.
#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/fleet.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"
#include "tests/rpc/fleet_hedging_fixture.h"

namespace ferry {
namespace {

class FleetReconnectTest : public FleetHedgingTest {};

// While the others carry its calls, and nobody asks for it.
TEST_F(FleetReconnectTest, TriesAServerAgainEveryFewSecondsHoweverLongItIsGone) {
  Connect();
  scripts_[0].failures = 1'000'000;
  const size_t before = scripts_[0].attempts.size();
  peers_[0]->Close();
  for (int i = 0; i < 12'000; ++i) Advance(absl::Milliseconds(10));
  const std::vector<transport::Instant>& attempts = scripts_[0].attempts;
  ASSERT_GT(attempts.size(), before + 40);
  for (size_t i = before + 1; i < attempts.size(); ++i) {
    EXPECT_LE(attempts[i] - attempts[i - 1], Fleet::kMaxBackoff + absl::Milliseconds(10));
  }
}

TEST_F(FleetReconnectTest, TriesAServerAgainAtOnceThatWasConnectedAndNotCalled) {
  Connect();
  Advance(absl::Seconds(2));
  const size_t before = scripts_[2].attempts.size();
  peers_[2]->Close();
  loop_->RunUntilIdle();
  EXPECT_EQ(scripts_[2].attempts.size(), before + 1);
}

TEST_F(FleetReconnectTest, AllCallsThatWereSentMayWaitForAnotherServer) {
  endpoint_options_.max_waiting_calls = 1;
  Connect({});
  for (const size_t server : {1, 2}) {
    scripts_[server].failures = 1'000'000;
    peers_[server]->Close();
  }
  loop_->RunUntilIdle();
  test::TestCall& first = Start({.wait_for_ready = true});
  test::TestCall& second = Start({.wait_for_ready = true});
  scripts_[0].failures = 1;
  peers_[0]->Send(DrainAll());
  peers_[0]->Close();
  loop_->RunUntilIdle();
  EXPECT_FALSE(first.ended) << first.status;
  EXPECT_FALSE(second.ended) << second.status;
  EXPECT_TRUE(Start({.wait_for_ready = true}).ended) << "one that was never sent";
}

}  // namespace
}  // namespace ferry
