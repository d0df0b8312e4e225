// How calls to several servers end early, and what ends with the channel.
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

using FleetEndTest = FleetFixture;

TEST_F(FleetEndTest, CancelsACallWhereverItIs) {
  Connect();
  std::stop_source waiting, sent;
  Later<absl::StatusOr<Message>> first, second;
  stub_->Hold(Message(), {.stop_token = waiting.get_token()},
              [&](absl::StatusOr<Message> r) { first.Set(std::move(r)); });
  waiting.request_stop();
  EXPECT_EQ(first.Wait().status().code(), StatusCode::kCancelled);
  Tell({&hosts_[0]});
  stub_->Hold(Message(), {.stop_token = sent.get_token()},
              [&](absl::StatusOr<Message> r) { second.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  sent.request_stop();
  EXPECT_EQ(second.Wait().status().code(), StatusCode::kCancelled);
}

TEST_F(FleetEndTest, ADeadlineEndsACallThatWaits) {
  Connect();
  const absl::Status status = Call({.timeout = absl::Milliseconds(1), .wait_for_ready = true});
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the servers of greeters are not known yet"));
}

TEST_F(FleetEndTest, DestroyingTheChannelEndsCallsThatWaitAndCallsThatAreSent) {
  Connect();
  Later<absl::StatusOr<Message>> waiting, sent;
  stub_->Hold(Message(), {.wait_for_ready = true},
              [&](absl::StatusOr<Message> r) { waiting.Set(std::move(r)); });
  channel_ = nullptr;
  EXPECT_EQ(waiting.Wait().status().code(), StatusCode::kCancelled);
  ManualNames names;
  absl::StatusOr<std::unique_ptr<Channel>> channel = Channel::CreateResolved("others", names.Factory());
  ASSERT_TRUE(channel.ok());
  names.Tell({hosts_[0].address()});
  ConformanceStub(**channel).Hold(Message(), {}, [&](absl::StatusOr<Message> r) { sent.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  *channel = nullptr;
  EXPECT_EQ(sent.Wait().status().code(), StatusCode::kCancelled);
}

TEST_F(FleetEndTest, TheChannelMayBeDestroyedInACallback) {
  Connect();
  Tell({&hosts_[0], &hosts_[1]});
  Later<bool> done;
  stub_->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
    channel_ = nullptr;
    done.Set(reply.ok());
  });
  EXPECT_TRUE(done.Wait());
}

TEST_F(FleetEndTest, CallsEndOnAServerThatHasLeftTheList) {
  Connect();
  Tell({&hosts_[0]});
  Later<absl::StatusOr<Message>> reply;
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  Tell({&hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[1]}));
  hosts_[0].FinishHeld();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

}  // namespace
}  // namespace ferry::test::e2e
