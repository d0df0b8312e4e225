// Servers that tell a channel to several of them by the standard health service whether they serve.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/health/health.ferry.h"
#include "ferry/rpc/health/health_service.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/callers.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using testing::HasSubstr;

constexpr HealthService::Status kServing = HealthService::kServing;
constexpr HealthService::Status kNotServing = HealthService::kNotServing;

class FleetHealthTest : public FleetFixture {
 protected:
  FleetHealthTest() {
    for (Host& host : hosts_) host.StartAgainWithHealth();
  }
  // Every host serves "shop" from the beginning.
  void ConnectAndAsk() {
    Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin}, .health_service = "shop"});
  }
  void Serve(HealthService::Status status) {
    for (Host& host : hosts_) host.health().SetStatus("shop", status);
  }
  ::testing::AssertionResult UsableBecome(size_t number) {
    if (Eventually([&] { return channel_->server_counts().usable == number; })) {
      return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << channel_->server_counts().usable << " are usable";
  }
  // Whether the host is in no use.
  void ExpectUnused(Host& host) {
    const int before = host.calls();
    for (int i = 0; i < 50; ++i) EXPECT_EQ(Call(), absl::OkStatus());
    EXPECT_EQ(host.calls(), before);
  }
};

TEST_F(FleetHealthTest, UsesOnlyServersThatSayThatTheyServe) {
  Serve(kServing);
  hosts_[1].health().SetStatus("shop", kNotServing);
  hosts_[2].health().SetStatus("shop", HealthService::kServiceUnknown);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[1].calls() + hosts_[2].calls(), 0);
  hosts_[2].health().SetStatus("shop", kServing);
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[2]}));
  EXPECT_EQ(hosts_[1].calls(), 0);
}

TEST_F(FleetHealthTest, AnEmptyNameAsksForTheServerAsAWhole) {
  Serve(kNotServing);
  hosts_[1].health().SetStatus("", kNotServing);
  Connect({.health_service = ""});
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  ExpectUnused(hosts_[1]);
}

TEST_F(FleetHealthTest, AsksNobodyUnlessItIsToldTo) {
  Serve(kNotServing);
  for (Host& host : hosts_) host.health().SetStatus("", kNotServing);
  Connect();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
}

TEST_F(FleetHealthTest, AServerWithoutAHealthServiceIsUsed) {
  Host plain;
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &plain});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &plain}));
}

TEST_F(FleetHealthTest, NoCallFailsWhileServersSayThatTheyDoNotServe) {
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  // Not idempotent: nothing makes up for a call that fails.
  Callers callers(
      3, [this](uint64_t) { return stub_->EchoExecutor(Message(), {.timeout = kLongTime}).status(); });
  for (int i = 0; i < 12; ++i) {
    Host& out = hosts_[i % 3];
    EXPECT_TRUE(UsableBecome(3));
    out.health().SetStatus("shop", kNotServing);
    EXPECT_TRUE(UsableBecome(2));
    // Calls that were on their way then have ended, once as many as there are callers have after them.
    const int others = hosts_[(i + 1) % 3].calls() + hosts_[(i + 2) % 3].calls();
    EXPECT_TRUE(
        Eventually([&] { return hosts_[(i + 1) % 3].calls() + hosts_[(i + 2) % 3].calls() > others + 20; }));
    out.health().SetStatus("shop", kServing);
  }
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(FleetHealthTest, TheLastServerIsLeftTooWhenItSaysThatItDoesNotServe) {
  Serve(kNotServing);
  ConnectAndAsk();
  Tell({&hosts_[0]});
  EXPECT_TRUE(Eventually([&] { return absl::IsUnavailable(Call()); }));
  const absl::Status status = Call();
  EXPECT_EQ(status, absl::UnavailableError("none of the 1 servers of greeters serves; " +
                                           hosts_[0].address() + ": its health is NOT_SERVING"));
  EXPECT_EQ(failure_.execution(), CallFailure::NOT_SENT);
  EXPECT_EQ(hosts_[0].calls(), 0);
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.wait_for_ready = true},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  hosts_[0].health().SetStatus("shop", kServing);
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetHealthTest, WhoDoesNotServeCountsAmongThoseWhoAreOutOfUse) {
  Serve(kServing);
  // One of three may be out of use.
  Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin},
           .outliers = {.failures_in_a_row = 5, .max_failure_share = 1, .max_ejected_share = 0.34},
           .retry = {.max_attempts = 1},
           .health_service = "shop"});
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
  hosts_[2].health().SetStatus("shop", kNotServing);
  EXPECT_TRUE(UsableBecome(2));
  hosts_[0].failing = true;
  const int before = hosts_[0].calls();
  for (int i = 0; i < 100; ++i) static_cast<void>(Call());
  EXPECT_GT(hosts_[0].calls(), before + 20);
  EXPECT_EQ(channel_->server_counts().usable, 2);
}

TEST_F(FleetHealthTest, AServerThatDrainsIsLeft) {
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  hosts_[0].Drain();
  ExpectUnused(hosts_[0]);
  EXPECT_EQ(channel_->server_counts().usable, 1);
}

TEST_F(FleetHealthTest, TheHealthOfAServerThatComesBackIsAskedAnew) {
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  // It serves only when it says so.
  hosts_[0].StartAgainWithHealth();
  ExpectUnused(hosts_[0]);
  hosts_[0].health().SetStatus("shop", kServing);
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
}

TEST_F(FleetHealthTest, AServerThatLeavesTheListIsNotAskedAnyMore) {
  hosts_[0].StartAgainWithHealth({.max_watches = 1});
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  absl::StatusOr<std::unique_ptr<Channel>> other = Channel::Create(hosts_[0].address());
  ASSERT_TRUE(other.ok()) << other.status();
  grpc::health::v1::HealthStub health(**other);
  const auto may_watch = [&] {
    grpc::health::v1::HealthCheckResponse response;
    return health.Watch({}).Read(response);
  };
  EXPECT_FALSE(may_watch());
  Tell({&hosts_[1]});
  EXPECT_TRUE(Eventually(may_watch));
}

TEST_F(FleetHealthTest, AChannelThatAsksMayBeDestroyed) {
  Serve(kServing);
  ConnectAndAsk();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  Later<bool> done;
  stub_->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
    channel_ = nullptr;
    done.Set(reply.ok());
  });
  EXPECT_TRUE(done.Wait());
  ConnectAndAsk();
  channel_ = nullptr;
}

class PooledFleetHealthTest : public FleetHealthTest, public testing::WithParamInterface<bool> {};

INSTANTIATE_TEST_SUITE_P(Pools, PooledFleetHealthTest, testing::Bool(),
                         [](const auto& exclusive) { return exclusive.param ? "Exclusive" : "Shared"; });

TEST_P(PooledFleetHealthTest, ServersAreAskedOnOneOfTheirConnections) {
  Serve(kServing);
  Connect({.pool = {.max_connections = 2, .exclusive = GetParam()},
           .balancing = {.policy = BalancingPolicy::kRoundRobin},
           .health_service = "shop"});
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  hosts_[0].health().SetStatus("shop", kNotServing);
  EXPECT_TRUE(UsableBecome(1));
  ExpectUnused(hosts_[0]);
  // Another server takes over, and the one before comes back, with its watch.
  hosts_[0].StartAgainWithHealth();
  hosts_[0].health().SetStatus("shop", kServing);
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
}

TEST_F(FleetHealthTest, TheOneExclusiveConnectionIsNotForWatching) {
  const absl::Status status =
      Channel::CreateResolved("x", names_.Factory(), {.pool = {.exclusive = true}, .health_service = ""})
          .status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("pool.max_connections is 1"));
}

TEST_F(FleetHealthTest, RefusesANameThatIsTooLong) {
  const absl::Status status =
      Channel::CreateResolved("x", names_.Factory(), {.health_service = std::string(2000, 'x')}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("2000 bytes, limit is 1024"));
}

}  // namespace
}  // namespace ferry::test::e2e
