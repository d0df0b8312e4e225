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

}  // namespace
}  // namespace ferry
