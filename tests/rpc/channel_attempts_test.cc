// That all channels of a process together are bound in how often they try to connect.
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/attempt_limiter.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.ferry.h"
#include "tests/testing/scripted_connector.h"

namespace ferry {
namespace {

using test::EchoStub;
using test::Text;

size_t Count(const std::vector<std::unique_ptr<Channel>>& channels, ConnectionStats::State state) {
  size_t count = 0;
  for (const std::unique_ptr<Channel>& channel : channels) {
    for (const ConnectionStats& connection : channel->connections()) count += connection.state == state;
  }
  return count;
}

TEST(ChannelAttemptsTest, ChannelsShareTheAttemptsOfTheirProcess) {
  constexpr size_t kChannels = AttemptLimiter::kBurst + 10;
  transport::ManualClock clock;
  absl::StatusOr<std::unique_ptr<transport::LoopGroup>> loops =
      transport::LoopGroup::Create({.clock = &clock});
  ASSERT_TRUE(loops.ok()) << loops.status();
  test::ScriptedConnector::Script script{.hang = true};
  std::vector<std::unique_ptr<Channel>> channels;
  channels.reserve(kChannels);
  for (size_t i = 0; i < kChannels; ++i) {
    absl::StatusOr<std::unique_ptr<Channel>> channel =
        Channel::CreateOver(std::make_unique<test::ScriptedConnector>(script), {.loops = loops->get()});
    ASSERT_TRUE(channel.ok()) << channel.status();
    EchoStub(**channel).Echo(Text(), {}, [](const absl::StatusOr<Text>&) {});
    channels.push_back(*std::move(channel));
  }
  EXPECT_EQ(Count(channels, ConnectionStats::State::kConnecting), AttemptLimiter::kBurst);
  EXPECT_EQ(Count(channels, ConnectionStats::State::kWaiting), 10u);
  // One a millisecond from then on.
  clock.Advance(absl::Milliseconds(10));
  while (Count(channels, ConnectionStats::State::kWaiting) > 0) continue;
  EXPECT_EQ(Count(channels, ConnectionStats::State::kConnecting), kChannels);
}

}  // namespace
}  // namespace ferry
