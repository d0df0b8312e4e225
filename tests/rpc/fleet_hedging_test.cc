// When and where a fleet sends a call to several servers at once, and whose answer counts.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.pb.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/retry_policy.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/fleet_hedging_fixture.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::ElementsAre;
using transport::FrameType;

TEST_F(FleetHedgingTest, SendsACallWithoutAnAnswerToAnotherServerToo) {
  Connect();
  TestCall& call = Start();
  const ReceivedFrame first = TakeRequest(0);
  EXPECT_EQ(first.head(), "");
  Advance(kDelay - absl::Nanoseconds(1));
  EXPECT_THAT(Types(1), ElementsAre());
  Advance(absl::Nanoseconds(1));
  const ReceivedFrame second = TakeRequest(1);
  EXPECT_EQ(AttemptOf(second), 2);
  EXPECT_EQ(second.message(), EncodedText("hello"));
  EXPECT_EQ(fleet_->hedges(), 1u);
  EXPECT_FALSE(call.ended);
}

TEST_F(FleetHedgingTest, TheAnswerOfTheOtherServerEndsTheCallAndCancelsTheFirst) {
  Connect();
  Hedged hedged = StartHedged();
  peers_[1]->Send(Answer(hedged.second, "from the second"));
  EXPECT_TRUE(hedged.call.ended);
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
  EXPECT_EQ(hedged.call.reply.text(), "from the second");
  EXPECT_THAT(Types(0), ElementsAre(FrameType::kCancel));
  EXPECT_THAT(Types(1), ElementsAre());
  EXPECT_FALSE(fleet_->has_calls());
}

TEST_F(FleetHedgingTest, TheAnswerOfTheFirstServerEndsTheCallAndCancelsTheOther) {
  Connect();
  Hedged hedged = StartHedged();
  peers_[0]->Send(Answer(hedged.first, "from the first"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
  EXPECT_EQ(hedged.call.reply.text(), "from the first");
  EXPECT_THAT(Types(0), ElementsAre());
  EXPECT_THAT(Types(1), ElementsAre(FrameType::kCancel));
  // What the loser says all the same is for nobody.
  peers_[1]->Send(Answer(hedged.second, "late"));
  EXPECT_EQ(hedged.call.reply.text(), "from the first");
  EXPECT_FALSE(fleet_->has_calls());
}

TEST_F(FleetHedgingTest, EachFurtherAttemptComesAfterAnotherDelay) {
  Connect({.max_attempts = 3, .hedge_delay = kDelay});
  StartHedged();
  Advance(kDelay);
  EXPECT_EQ(AttemptOf(TakeRequest(2)), 3);
  Advance(absl::Hours(1));
  for (size_t i = 0; i < kServers; ++i) EXPECT_THAT(Types(i), ElementsAre());
}

TEST_F(FleetHedgingTest, NeverSendsMoreOftenThanMaxAttempts) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  StartHedged();
  Advance(absl::Hours(1));
  EXPECT_THAT(Types(2), ElementsAre());
}

TEST_F(FleetHedgingTest, NeverSendsACallTwiceToOneServer) {
  Connect({.max_attempts = 10, .hedge_delay = kDelay});
  StartHedged();
  Advance(kDelay);
  TakeRequest(2);
  Advance(absl::Hours(1));
  for (size_t i = 0; i < kServers; ++i) EXPECT_THAT(Types(i), ElementsAre());
}

TEST_F(FleetHedgingTest, PassesOverAServerThatIsNotConnected) {
  Connect();
  TestCall& call = Start();
  TakeRequest(0);
  scripts_[1].failures = 1000;
  peers_[1]->Close();
  loop_->RunUntilIdle();
  Advance(kDelay);
  peers_[2]->Send(Answer(TakeRequest(2), "x"));
  EXPECT_EQ(call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, AnAnswerInTimeIsAllThereIs) {
  Connect();
  TestCall& call = Start();
  peers_[0]->Send(Answer(TakeRequest(0), "x"));
  EXPECT_EQ(call.status, absl::OkStatus());
  Advance(absl::Hours(1));
  EXPECT_THAT(Types(1), ElementsAre());
  EXPECT_EQ(fleet_->hedges(), 0u);
}

TEST_F(FleetHedgingTest, ACallMayHaveADelayOfItsOwn) {
  Connect({});
  Start({.retry = RetryPolicy{.hedge_delay = absl::Milliseconds(5)}});
  Advance(absl::Milliseconds(5));
  TakeRequest(1);
}

TEST_F(FleetHedgingTest, DoesNotHedgeAMethodThatIsNotIdempotent) {
  Connect();
  Start({}, absl::InfiniteDuration(), test::kEchoMethod);
  TakeRequest(0);
  Advance(absl::Hours(1));
  EXPECT_THAT(Types(1), ElementsAre());
}

TEST_F(FleetHedgingTest, AFinalErrorOfAnyServerEndsTheCall) {
  Connect();
  Hedged hedged = StartHedged();
  peers_[1]->Send(AnswerStatus(hedged.second, {.status = absl::NotFoundError("no such user"),
                                               .initial_metadata = {{"a", "1"}},
                                               .trailing_metadata = {{"b", "2"}}}));
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(hedged.call.metadata.initial, Metadata({{"a", "1"}}));
  EXPECT_EQ(hedged.call.metadata.trailing, Metadata({{"b", "2"}}));
  EXPECT_THAT(Types(0), ElementsAre(FrameType::kCancel));
  const std::optional<CallFailure> failure = hedged.call.failure;
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->execution(), CallFailure::EXECUTED);
  EXPECT_EQ(failure->attempt_count(), 2);
}

TEST_F(FleetHedgingTest, AReplyInFragmentsMayWin) {
  Connect();
  Hedged hedged = StartHedged();
  const std::string message = EncodedText(std::string(1000, 'x'));
  peers_[1]->Send(test::EncodeFrame(
      {.type = FrameType::kResponse, .flags = transport::kMore, .stream = hedged.second.header.stream},
      *EncodeResponseHead({{"a", "1"}}, {}, message.size(), 16384), message.substr(0, 500)));
  EXPECT_FALSE(hedged.call.ended);
  peers_[1]->Send(test::EncodeFrame(
      {.type = FrameType::kMessage, .flags = transport::kEndStream, .stream = hedged.second.header.stream},
      {}, message.substr(500)));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
  EXPECT_EQ(hedged.call.reply.text(), std::string(1000, 'x'));
  EXPECT_EQ(hedged.call.metadata.initial, Metadata({{"a", "1"}}));
}

TEST_F(FleetHedgingTest, WithoutATokenThereIsNoFurtherAttempt) {
  Connect({.hedge_delay = kDelay}, {.share = 0, .min_per_second = 0, .max_tokens = 1});
  StartHedged();
  Advance(kDelay);
  EXPECT_THAT(Types(2), ElementsAre());
  EXPECT_EQ(fleet_->hedges(), 1u);
}

TEST_F(FleetHedgingTest, ACallThatWaitsForAServerIsHedgedWhenItIsSent) {
  Connect();
  for (size_t i = 0; i < kServers; ++i) {
    scripts_[i].failures = 1;
    peers_[i]->Close();
  }
  loop_->RunUntilIdle();
  TestCall& call = Start({.wait_for_ready = true});
  while (scripts_[1].far_ends.empty() || scripts_[2].far_ends.empty()) Advance(absl::Milliseconds(100));
  Greet(1);
  TakeRequest(1);
  Greet(2);
  Advance(kDelay);
  const ReceivedFrame second = TakeRequest(2);
  EXPECT_EQ(AttemptOf(second), 2);
  peers_[2]->Send(Answer(second, "x"));
  EXPECT_EQ(call.status, absl::OkStatus());
}

// ---------------------------------------------------------------- What a server's connections let in

TEST_F(FleetHedgingTest, AFirstAttemptIsRefusedWhereTooManyCallsWait) {
  endpoint_options_.max_waiting_calls = 1;
  settings_[0].max_streams = 2;
  Connect();
  TestCall& sent = Start();
  TestCall& waiting = Start();
  TakeRequest(0);
  TestCall& refused = Start();
  EXPECT_EQ(refused.status, absl::ResourceExhaustedError("1 calls wait to be sent, limit is 1"));
  EXPECT_FALSE(sent.ended);
  EXPECT_FALSE(waiting.ended);
}

TEST_F(FleetHedgingTest, AFirstAttemptIsRefusedWhereTooManyCallsWaitForAConnection) {
  endpoint_options_.max_waiting_calls = 1;
  pool_options_ = {.exclusive = true};
  Connect();
  TestCall& sent = Start();
  TestCall& waiting = Start();
  TakeRequest(0);
  TestCall& refused = Start();
  EXPECT_EQ(refused.status, absl::ResourceExhaustedError("1 calls wait for a connection, limit is 1"));
  EXPECT_FALSE(sent.ended);
  EXPECT_FALSE(waiting.ended);
}

TEST_F(FleetHedgingTest, AFirstAttemptIsRefusedWhereEveryConnectionIsInUse) {
  pool_options_ = {.exclusive = true, .when_full = PoolOptions::WhenFull::kFail};
  Connect();
  TestCall& sent = Start();
  TakeRequest(0);
  EXPECT_EQ(Start().status.code(), StatusCode::kResourceExhausted);
  EXPECT_FALSE(sent.ended);
}

TEST_F(FleetHedgingTest, AFurtherAttemptIsRefusedWhereTooManyCallsWait) {
  endpoint_options_.max_waiting_calls = 1;
  settings_[1].max_streams = 2;
  Connect();
  Start();
  Start();
  TestCall& call = Start();
  const std::vector<ReceivedFrame> first = peers_[0]->TakeFrames();
  ASSERT_EQ(first.size(), 3u);
  // One is sent, one waits.
  Advance(kDelay);
  EXPECT_THAT(Types(1), ElementsAre(FrameType::kRequest));
  EXPECT_EQ(fleet_->hedges(), 3u);
  Advance(kDelay);
  EXPECT_THAT(Types(2), ElementsAre(FrameType::kRequest, FrameType::kRequest))
      << "the third is hedged no more";
  EXPECT_FALSE(call.ended);
  peers_[0]->Send(Answer(first[2], "x"));
  EXPECT_EQ(call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, AttemptsWithinAServersPoolAreCounted) {
  pool_options_ = {.min_connections = 2, .max_connections = 2};
  Connect({});
  const std::unique_ptr<RawPeer> first = std::move(peers_[0]);
  Greet(0);
  TestCall& call = Start();
  ASSERT_TRUE(first->TakeFrame().has_value());
  first->Send(DrainAll());
  const ReceivedFrame second = TakeRequest(0);
  EXPECT_EQ(AttemptOf(second), 2);
  peers_[0]->Send(AnswerStatus(second, {.status = absl::UnavailableError("out of order")}));
  const ReceivedFrame third = TakeRequest(1);
  EXPECT_EQ(AttemptOf(third), 3);
  peers_[1]->Send(AnswerStatus(third, {.status = absl::NotFoundError("no such user")}));
  EXPECT_EQ(call.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(call.failure.value_or(CallFailure()).attempt_count(), 3);
}

}  // namespace
}  // namespace ferry
