// Servers that fail, vanish and come back under a channel to several.
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/callers.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/fault_proxy.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

using FleetFaultTest = FleetFixture;

TEST_F(FleetFaultTest, NoCallFailsWhileServersStopAndStart) {
  Connect();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  Callers callers(3,
                  [this](uint64_t) { return stub_->EchoInline(Message(), {.timeout = kLongTime}).status(); });
  const auto reached = [&] {
    std::array<int, 3> before;
    for (int i = 0; i < 3; ++i) before[i] = hosts_[i].calls();
    return Eventually([&] {
      return hosts_[0].calls() > before[0] && hosts_[1].calls() > before[1] && hosts_[2].calls() > before[2];
    });
  };
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(reached());
    hosts_[i % 3].Stop();
    hosts_[i % 3].StartAgain();
  }
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(FleetFaultTest, AServerWhoseCallsFailIsTakenOut) {
  Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin},
           .outliers = {
               .failures_in_a_row = 5, .base_ejection = absl::Hours(1), .max_ejection = absl::Hours(1)}});
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  // While one of three is not connected, no other is taken out.
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
  const int before = hosts_[0].calls();
  hosts_[0].failing = true;
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(Call(), absl::OkStatus());
    return hosts_[0].calls() >= before + 5;
  }));
  // In the batch of its fifth failure, before the call has ended elsewhere.
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), before + 5);
}

TEST_F(FleetFaultTest, ACallThatWasLostMayHaveBeenExecuted) {
  Connect();
  Tell({&hosts_[0]});
  Later<absl::StatusOr<Message>> reply;
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[1].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address()});
  Later<absl::StatusOr<Message>> lost;
  EXPECT_TRUE(ReachesAll({&hosts_[1]}));
  const int calls = hosts_[1].calls();
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { lost.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[1].calls() > calls; }));
  (*proxy)->ResetConnections();
  const absl::Status status = lost.Wait().status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  const std::optional<CallFailure> failure = FailureOf(status);
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->execution(), CallFailure::MAYBE_EXECUTED);
  EXPECT_EQ(failure->phase(), CallFailure::SENT);
  EXPECT_EQ(failure->peer(), (*proxy)->address());
  hosts_[0].FinishHeld();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetFaultTest, ABlackHoleIsNoticedByItsSilence) {
  Connect({.keepalive_time = absl::Milliseconds(100)});
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[0].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address()});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  ASSERT_TRUE((*proxy)->SetFaults({.black_hole = true}).ok());
  // Without a deadline.
  const absl::StatusOr<Message> reply = stub_->EchoExecutor(Message());
  EXPECT_EQ(reply.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(reply.status().message()), HasSubstr("no sign of life"));
  EXPECT_EQ(FailureOf(reply.status()).value_or(CallFailure()).execution(), CallFailure::MAYBE_EXECUTED);
}

TEST_F(FleetFaultTest, AnIdempotentCallInABlackHoleIsSentToAnotherServer) {
  Connect({.keepalive_time = absl::Milliseconds(100)});
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[0].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address(), hosts_[1].address()});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  ASSERT_TRUE((*proxy)->SetFaults({.black_hole = true}).ok());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
}

TEST_F(FleetFaultTest, AllServersMayGoAndComeBack) {
  Connect();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_EQ(Call(), absl::OkStatus());
  hosts_[0].Stop();
  hosts_[1].Stop();
  EXPECT_TRUE(Eventually([&] { return absl::IsUnavailable(Call()); }));
  const absl::Status status = Call();
  EXPECT_THAT(std::string(status.message()), HasSubstr("greeters"));
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.wait_for_ready = true},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  hosts_[1].StartAgain();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

}  // namespace
}  // namespace ferry::test::e2e
