// Channels to services of several servers: which there are.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "ferry/rpc/balancing/subset.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/callers.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

using FleetTest = FleetFixture;

TEST_F(FleetTest, SpreadsCallsOverAllServers) {
  Connect();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
}

TEST_F(FleetTest, CallsWaitForTheFirstList) {
  Connect();
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  Tell({&hosts_[0]});
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, NamesTheServiceThatHasNoServers) {
  Connect();
  names_.Tell(std::vector<std::string>());
  const absl::Status status = Call();
  EXPECT_EQ(status, absl::UnavailableError("greeters has no servers"));
  EXPECT_EQ(failure_.execution(), CallFailure::NOT_SENT);
  EXPECT_EQ(failure_.phase(), CallFailure::RESOLVE);
  EXPECT_EQ(failure_.attempt_count(), 0);
}

TEST_F(FleetTest, SaysWhyTheNameWasNotFound) {
  Connect();
  names_.Tell(absl::NotFoundError("greeters: no such name"));
  EXPECT_EQ(Call(), absl::UnavailableError("greeters: no such name"));
  EXPECT_EQ(failure_.phase(), CallFailure::RESOLVE);
}

TEST_F(FleetTest, ACallThatWaitsForReadyOutlivesAnEmptyList) {
  Connect();
  names_.Tell(std::vector<std::string>());
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.wait_for_ready = true},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_EQ(Call().code(), StatusCode::kUnavailable);
  Tell({&hosts_[1]});
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, KeepsTheLastListThroughAnError) {
  Connect();
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::OkStatus());
  names_.Tell(absl::UnavailableError("the name server is away"));
  EXPECT_EQ(Call(), absl::OkStatus());
}

TEST_F(FleetTest, KeepsTheLastListThroughAnEmptyOne) {
  Connect();
  TellAndConnect({&hosts_[0]});
  names_.Tell(std::vector<std::string>());
  // The list comes within these.
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(channel_->server_counts().servers, 1u);
}

TEST_F(FleetTest, SaysWhatBecameOfTheNameWhenTheLastServersCannotBeReached) {
  Connect();
  TellAndConnect({&hosts_[0]});
  names_.Tell(std::vector<std::string>());
  hosts_[0].Stop();
  absl::Status status;
  ASSERT_TRUE(Eventually([&] {
    status = Call();
    return !status.ok();
  }));
  EXPECT_TRUE(absl::StartsWith(status.message(), "none of the 1 servers of greeters can be reached; "))
      << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), "; since they were found: greeters has no servers")) << status;
}

TEST_F(FleetTest, ServersJoinAndLeave) {
  Connect();
  Tell({&hosts_[0]});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  Tell({&hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[1], &hosts_[2]}));
  const int calls = hosts_[0].calls();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), calls);
}

// A call that is picked a server in the moment in which that leaves the list must not be lost with it.
TEST_F(FleetTest, NoCallFailsWhileTheListChanges) {
  Connect();
  Tell({&hosts_[0]});
  // Not idempotent: nothing makes up for a call that fails.
  Callers callers(
      3, [this](uint64_t) { return stub_->EchoExecutor(Message(), {.timeout = kLongTime}).status(); });
  for (int i = 1; i <= 60; ++i) {
    Host& next = hosts_[i % 3];
    const int before = next.calls();
    Tell({&next});
    EXPECT_TRUE(Eventually([&] { return next.calls() > before; }));
  }
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(FleetTest, CallsOfOneKeyGoToOneServer) {
  Connect({.balancing = {.policy = BalancingPolicy::kConsistentHash}});
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
  for (int key = 0; key < 20; ++key) {
    std::vector<int> before;
    before.reserve(hosts_.size());
    for (const Host& host : hosts_) before.push_back(host.calls());
    for (int i = 0; i < 10; ++i) EXPECT_EQ(Call({.hash_key = std::to_string(key)}), absl::OkStatus());
    int used = 0;
    for (int i = 0; i < 3; ++i) used += hosts_[i].calls() > before[i];
    EXPECT_EQ(used, 1) << key;
  }
}

TEST_F(FleetTest, UsesTheServersThatFollowFromTheClient) {
  const std::vector<std::string> addresses = {hosts_[0].address(), hosts_[1].address(), hosts_[2].address()};
  for (uint64_t client = 0; client < 5; ++client) {
    ManualNames names;
    const absl::StatusOr<std::unique_ptr<Channel>> channel =
        Channel::CreateResolved("greeters", names.Factory(), {.max_servers = 1, .client_id = client});
    ASSERT_TRUE(channel.ok()) << channel.status();
    names.Tell(addresses);
    const Host& used = hosts_[Subset({addresses[0], addresses[1], addresses[2]}, client, 1).front()];
    const int before = used.calls();
    ConformanceStub stub(**channel);
    for (int i = 0; i < 30; ++i)
      EXPECT_EQ(stub.EchoInline(Message(), {.timeout = kLongTime}).status(), absl::OkStatus());
    EXPECT_EQ(used.calls(), before + 30);
    EXPECT_EQ((*channel)->server_counts().servers, 1u);
  }
}

TEST_F(FleetTest, TakesAnotherServerForOneOfItsPartThatLeaves) {
  Connect({.max_servers = 2});
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  ASSERT_TRUE(Eventually([&] { return channel_->server_counts().usable == 2; }));
  for (int gone = 0; gone < 3; ++gone) {
    Host& one = hosts_[(gone + 1) % 3];
    Host& other = hosts_[(gone + 2) % 3];
    TellAndConnect({&one, &other});
    EXPECT_TRUE(ReachesAll({&one, &other}));
    EXPECT_EQ(channel_->server_counts().servers, 2u);
  }
}

TEST_F(FleetTest, RefusesOptionsThatAreOutOfBounds) {
  const struct {
    ChannelOptions options;
    const char* message;
  } kCases[] = {
      {{.connect_timeout = absl::ZeroDuration()}, "connect_timeout is 0, must be at least 1ms"},
      {{.min_backoff = absl::ZeroDuration()}, "min_backoff is 0, must be at least 1ms"},
      {{.min_backoff = absl::Seconds(2), .max_backoff = absl::Seconds(1)},
       "max_backoff is 1s, must be at least 2s"},
      {{.keepalive_time = absl::Microseconds(999)}, "keepalive_time is 999us, must be at least 1ms"},
      {{.retry = {.max_attempts = 0}}, "retry.max_attempts is 0, it must be 1 to 10"},
      {{.retry = {.max_attempts = 1, .hedge_delay = absl::Milliseconds(5)}},
       "retry.hedge_delay is 5ms, but retry.max_attempts is 1: there is no other attempt, it must be 2 to "
       "10"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(Channel::CreateResolved("x", names_.Factory(), c.options).status(),
              absl::InvalidArgumentError(c.message));
  }
}

TEST(ChannelOptionsTest, AreCheckedForOneServerToo) {
  EXPECT_EQ(Channel::Create("127.0.0.1:1", {.min_backoff = -absl::Seconds(1)}).status(),
            absl::InvalidArgumentError("min_backoff is -1s, must be at least 1ms"));
}

}  // namespace
}  // namespace ferry::test::e2e
