// Calls that a fleet sends to several servers at once.
#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.pb.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/manual_resolver.h"
#include "tests/testing/random.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::RawPeer;
using test::ReceivedFrame;
using test::ScriptedConnector;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using transport::FrameType;
using transport::Instant;

constexpr absl::Duration kDelay = absl::Milliseconds(50);
constexpr size_t kServers = 3;

std::string NameOf(size_t server) { return absl::StrCat("127.0.0.1:", server + 1); }

int AttemptOf(const ReceivedFrame& request) { return ferry::AttemptOf(request.head()); }

std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

std::string Answer(const ReceivedFrame& request, const std::string& text) {
  return test::EncodeFrame(
      {.type = FrameType::kResponse, .flags = transport::kEndStream, .stream = request.header.stream}, {},
      EncodedText(text));
}

std::string AnswerStatus(const ReceivedFrame& request, const WireStatus& status) {
  return test::EncodeHeadFrame(FrameType::kStatus, EncodeStatusHead(status, 16384), request.header.stream,
                               transport::kEndStream);
}

// The server takes no calls, and has taken none.
std::string DrainAll() {
  wire::DrainHead head;
  return test::EncodeHeadFrame(FrameType::kDrain, head.SerializeAsString());
}

// Three servers in memory. The first that is connected, and not to be avoided,
// is picked.
class FleetHedgingTest : public testing::Test {
 protected:
  ~FleetHedgingTest() override { Close(); }

  void Connect(const RetryPolicy& retry = {.hedge_delay = kDelay}, const RetryBudget::Options& budget = {}) {
    absl::StatusOr<std::shared_ptr<Fleet>> fleet =
        Fleet::Create({.name = "greeters",
                       .endpoint = endpoint_options_,
                       .pool = pool_options_,
                       .balancing = {.policy = BalancingPolicy::kPickFirst},
                       .retry_budget = budget,
                       .retry = retry,
                       .seed = 1},
                      *loop_, names_.Factory(), [this](const ResolvedServer& server) {
                        for (size_t i = 0; i < kServers; ++i) {
                          if (server.name == NameOf(i))
                            return std::make_unique<ScriptedConnector>(scripts_[i]);
                        }
                        return std::unique_ptr<ScriptedConnector>();
                      });
    ASSERT_TRUE(fleet.ok()) << fleet.status();
    fleet_ = *std::move(fleet);
    loop_->RunUntilIdle();
    names_.Tell({NameOf(0), NameOf(1), NameOf(2)});
    loop_->RunUntilIdle();
    for (size_t i = 0; i < kServers; ++i) Greet(i);
  }
  void Greet(size_t i) {
    // Of its last connection.
    peers_[i] =
        std::make_unique<RawPeer>(std::move(scripts_[i].far_ends.back()), [this] { loop_->RunUntilIdle(); });
    scripts_[i].far_ends.clear();
    peers_[i]->Send(test::Preface() + test::EncodeSettingsFrame(settings_[i]));
    EXPECT_TRUE(peers_[i]->TakePreface());
    EXPECT_EQ(peers_[i]->TakeFrame().value_or(ReceivedFrame()).header.type, FrameType::kSettings);
  }
  void Close() {
    if (fleet_ == nullptr) return;
    test::RunIn(*loop_, [this] { fleet_->Close(absl::CancelledError("the test ends")); });
    fleet_ = nullptr;
    loop_->RunUntilIdle();
  }

  TestCall& Start(const CallOptions& options = {}, absl::Duration timeout = absl::InfiniteDuration(),
                  const MethodDescriptor& method = test::kIdempotentEchoMethod,
                  const std::string& text = "hello") {
    TestCall& call = calls_.emplace_back(text, clock_.Now() + timeout);
    call.method = &method;
    call.wait_for_ready = options.wait_for_ready;
    EXPECT_EQ(fleet_->Route(call, options), absl::OkStatus());
    fleet_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    loop_->RunUntilIdle();
    return call;
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  // The only frame that has come to a server, which is a REQUEST.
  ReceivedFrame TakeRequest(size_t server) {
    std::vector<ReceivedFrame> frames = peers_[server]->TakeFrames();
    EXPECT_EQ(frames.size(), 1u) << "to server " << server;
    if (frames.empty()) return {};
    EXPECT_EQ(frames[0].header.type, FrameType::kRequest);
    return std::move(frames[0]);
  }
  // What has come to a server.
  std::vector<FrameType> Types(size_t server) {
    std::vector<FrameType> types;
    for (const ReceivedFrame& frame : peers_[server]->TakeFrames()) types.push_back(frame.header.type);
    return types;
  }
  // A call that has been sent to the first two servers.
  struct Hedged {
    TestCall& call;
    ReceivedFrame first;
    ReceivedFrame second;
  };
  Hedged StartHedged(const CallOptions& options = {}, absl::Duration timeout = absl::InfiniteDuration()) {
    TestCall& call = Start(options, timeout);
    ReceivedFrame first = TakeRequest(0);
    Advance(kDelay);
    return {call, std::move(first), TakeRequest(1)};
  }

  transport::ManualClock clock_;
  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  test::ManualNames names_;
  Endpoint::Options endpoint_options_;
  PoolOptions pool_options_;
  std::array<WireSettings, kServers> settings_;
  std::array<ScriptedConnector::Script, kServers> scripts_;
  std::array<std::unique_ptr<RawPeer>, kServers> peers_;
  std::deque<TestCall> calls_;
  std::shared_ptr<Fleet> fleet_;
};

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

TEST_F(FleetHedgingTest, AFailedHedgeIsOnlyNoted) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[1]->Send(AnswerStatus(hedged.second, {.status = absl::UnavailableError("out of order")}));
  EXPECT_FALSE(hedged.call.ended);
  EXPECT_THAT(Types(0), ElementsAre());
  peers_[0]->Send(Answer(hedged.first, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, AFailedFirstAttemptLeavesTheCallToTheOther) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[0]->Send(AnswerStatus(hedged.first, {.status = absl::UnavailableError("out of order")}));
  EXPECT_FALSE(hedged.call.ended);
  peers_[1]->Send(Answer(hedged.second, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
  EXPECT_EQ(hedged.call.reply.text(), "x");
}

TEST_F(FleetHedgingTest, ALostConnectionLeavesTheCallToTheOther) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[0]->Close();
  loop_->RunUntilIdle();
  EXPECT_FALSE(hedged.call.ended);
  peers_[1]->Send(Answer(hedged.second, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, WhatADrainingServerGivesBackLeavesTheCallToTheOther) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  for (const size_t drained : {size_t{1}, size_t{0}}) {
    Hedged hedged = StartHedged();
    peers_[drained]->Send(DrainAll());
    EXPECT_FALSE(hedged.call.ended);
    EXPECT_THAT(Types(1 - drained), ElementsAre()) << "it is not sent again";
    peers_[1 - drained]->Send(Answer(drained == 1 ? hedged.first : hedged.second, "x"));
    EXPECT_EQ(hedged.call.status, absl::OkStatus());
    EXPECT_FALSE(fleet_->has_calls());
    if (drained == 0) break;
    // The drained server is replaced.
    loop_->RunUntilIdle();
    peers_[1]->Close();
    loop_->RunUntilIdle();
    while (scripts_[1].far_ends.empty()) Advance(absl::Milliseconds(100));
    Greet(1);
  }
}

TEST_F(FleetHedgingTest, ACallThatAllServersGiveBackIsSentAgain) {
  Connect({.max_attempts = 3, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[0]->Send(DrainAll());
  peers_[1]->Send(DrainAll());
  EXPECT_FALSE(hedged.call.ended);
  const ReceivedFrame third = TakeRequest(2);
  EXPECT_EQ(AttemptOf(third), 3);
  peers_[2]->Send(Answer(third, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, IsSentAgainWhenAllAttemptsHaveFailed) {
  Connect({.max_attempts = 3, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[0]->Send(AnswerStatus(hedged.first, {.status = absl::UnavailableError("first")}));
  peers_[1]->Send(AnswerStatus(hedged.second, {.status = absl::UnavailableError("second")}));
  const ReceivedFrame third = TakeRequest(0);
  EXPECT_EQ(AttemptOf(third), 3);
  EXPECT_EQ(third.message(), EncodedText("hello"));
  peers_[0]->Send(Answer(third, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, SaysHowAllAttemptsHaveFailed) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  Advance(absl::Milliseconds(10));
  peers_[1]->Send(AnswerStatus(hedged.second, {.status = absl::UnavailableError("second")}));
  peers_[0]->Send(AnswerStatus(hedged.first, {.status = absl::UnavailableError("first")}));
  EXPECT_TRUE(hedged.call.ended);
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(hedged.call.status.message()), HasSubstr("first"));
  const std::optional<CallFailure> failure = hedged.call.failure;
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->attempt_count(), 2);
  ASSERT_EQ(failure->attempts_size(), 2);
  EXPECT_EQ(failure->attempts(0).peer(), NameOf(1));
  EXPECT_EQ(failure->attempts(0).began().nanos(), absl::ToInt64Nanoseconds(kDelay));
  EXPECT_EQ(failure->attempts(0).took().nanos(), 10'000'000);
  EXPECT_EQ(failure->attempts(1).peer(), NameOf(0));
  EXPECT_EQ(failure->attempts(1).began().nanos(), 0);
}

TEST_F(FleetHedgingTest, AServerThatAsksForAPauseStopsHedging) {
  Connect();
  Hedged hedged = StartHedged();
  peers_[1]->Send(AnswerStatus(hedged.second, {.status = absl::UnavailableError("too much to do"),
                                               .retry_after = absl::Milliseconds(1)}));
  Advance(absl::Hours(1));
  EXPECT_THAT(Types(2), ElementsAre());
  peers_[0]->Send(Answer(hedged.first, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, AServerThatShedsStopsHedgingAndDoesNotEndTheCall) {
  Connect();
  Hedged hedged = StartHedged();
  peers_[1]->Send(AnswerStatus(
      hedged.second, {.status = absl::ResourceExhaustedError("the queue is full"), .not_executed = true}));
  EXPECT_FALSE(hedged.call.ended);
  Advance(absl::Hours(1));
  EXPECT_THAT(Types(2), ElementsAre());
  peers_[0]->Send(Answer(hedged.first, "x"));
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, WithoutATokenThereIsNoFurtherAttempt) {
  Connect({.hedge_delay = kDelay}, {.share = 0, .min_per_second = 0, .max_tokens = 1});
  StartHedged();
  Advance(kDelay);
  EXPECT_THAT(Types(2), ElementsAre());
  EXPECT_EQ(fleet_->hedges(), 1u);
}

TEST_F(FleetHedgingTest, TheCallerCancelsAllAttempts) {
  Connect();
  Hedged hedged = StartHedged();
  test::RunIn(*loop_, [&] { fleet_->CancelCall(hedged.call, absl::CancelledError("not wanted")); });
  EXPECT_TRUE(hedged.call.ended);
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kCancelled);
  EXPECT_THAT(std::string(hedged.call.status.message()), HasSubstr("not wanted"));
  EXPECT_THAT(Types(0), ElementsAre(FrameType::kCancel));
  EXPECT_THAT(Types(1), ElementsAre(FrameType::kCancel));
  EXPECT_EQ(hedged.call.failure.value_or(CallFailure()).execution(), CallFailure::MAYBE_EXECUTED);
  EXPECT_FALSE(fleet_->has_calls());
}

TEST_F(FleetHedgingTest, TheCallerCancelsWhatOnlyTheOtherServerStillHas) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged();
  peers_[0]->Send(AnswerStatus(hedged.first, {.status = absl::UnavailableError("out of order")}));
  test::RunIn(*loop_, [&] { fleet_->CancelCall(hedged.call, absl::CancelledError("not wanted")); });
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kCancelled);
  EXPECT_THAT(Types(1), ElementsAre(FrameType::kCancel));
}

TEST_F(FleetHedgingTest, TheDeadlineEndsAllAttempts) {
  Connect();
  Hedged hedged = StartHedged({}, kDelay + absl::Milliseconds(10));
  Advance(absl::Milliseconds(10));
  EXPECT_TRUE(hedged.call.ended);
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Types(0), ElementsAre(FrameType::kCancel));
  EXPECT_THAT(Types(1), ElementsAre(FrameType::kCancel));
  EXPECT_FALSE(fleet_->has_calls());
}

TEST_F(FleetHedgingTest, TheDeadlineEndsWhatOnlyTheOtherServerStillHas) {
  Connect({.max_attempts = 2, .hedge_delay = kDelay});
  Hedged hedged = StartHedged({}, kDelay + absl::Milliseconds(10));
  peers_[0]->Send(AnswerStatus(hedged.first, {.status = absl::UnavailableError("out of order")}));
  Advance(absl::Milliseconds(10));
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(FleetHedgingTest, SendsNothingThatWouldBePastTheDeadline) {
  Connect();
  TestCall& call = Start({}, kDelay);
  Advance(kDelay);
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Types(1), ElementsAre());
}

TEST_F(FleetHedgingTest, ClosingEndsTheCallOnce) {
  Connect();
  Hedged hedged = StartHedged();
  test::RunIn(*loop_, [this] { fleet_->Close(absl::CancelledError("closed")); });
  EXPECT_TRUE(hedged.call.ended);
  EXPECT_EQ(hedged.call.status.code(), StatusCode::kCancelled);
  EXPECT_FALSE(fleet_->has_calls());
}

TEST_F(FleetHedgingTest, TheFleetMayBeClosedAndLetGoInACallback) {
  Connect();
  Hedged hedged = StartHedged();
  hedged.call.on_end = [this] {
    fleet_->Close(absl::CancelledError("closed"));
    fleet_ = nullptr;
  };
  peers_[1]->Send(Answer(hedged.second, "x"));
  loop_->RunUntilIdle();
  EXPECT_EQ(hedged.call.status, absl::OkStatus());
}

TEST_F(FleetHedgingTest, ALoserIsNotItsServersFailure) {
  Connect();
  for (int i = 0; i < 20; ++i) {
    Hedged hedged = StartHedged();
    peers_[1]->Send(Answer(hedged.second, "x"));
    EXPECT_EQ(hedged.call.status, absl::OkStatus());
    EXPECT_THAT(Types(0), ElementsAre(FrameType::kCancel));
    Advance(absl::Seconds(1));
    EXPECT_EQ(fleet_->counts().usable, 3u) << i;
  }
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

// Whatever happens in whatever order, each call ends once.
TEST_F(FleetHedgingTest, EveryCallEndsOnceWhateverHappens) {
  test::Random random;
  Connect({.max_attempts = 4, .hedge_delay = kDelay}, {.share = 1, .min_per_second = 1000});
  std::array<std::vector<ReceivedFrame>, kServers> open;
  const auto collect = [&] {
    for (size_t i = 0; i < kServers; ++i) {
      for (ReceivedFrame& frame : peers_[i]->TakeFrames()) {
        if (frame.header.type == FrameType::kRequest) open[i].push_back(std::move(frame));
      }
    }
  };
  for (int step = 0; step < 5'000; ++step) {
    const size_t server = random.Number(0, kServers - 1);
    switch (random.Number(0, 9)) {
      case 0:
      case 1:
        Start({.wait_for_ready = random.Number(0, 1) == 0},
              random.Number(0, 2) == 0 ? absl::Milliseconds(1 + random.Number(0, 199))
                                       : absl::InfiniteDuration());
        break;
      case 2:
        if (!calls_.empty() && !calls_.back().ended) {
          test::RunIn(*loop_, [&] { fleet_->CancelCall(calls_.back(), absl::CancelledError("")); });
        }
        break;
      case 3:
        if (random.Number(0, 9) == 0) {
          if (random.Coin()) peers_[server]->Send(DrainAll());
          peers_[server]->Close();
          open[server].clear();
          for (int tries = 0; scripts_[server].far_ends.empty() && tries < 1000; ++tries) {
            Advance(absl::Milliseconds(20));
          }
          ASSERT_FALSE(scripts_[server].far_ends.empty());
          Greet(server);
        }
        break;
      case 4:
      case 5:
        Advance(absl::Milliseconds(random.Number(0, 79)));
        break;
      default: {
        collect();
        if (open[server].empty()) break;
        const ReceivedFrame request = std::move(open[server].back());
        open[server].pop_back();
        const uint64_t kind = random.Number(0, 5);
        const absl::Status status = kind == 0   ? absl::UnavailableError("")
                                    : kind == 1 ? absl::ResourceExhaustedError("")
                                                : absl::NotFoundError("");
        peers_[server]->Send(
            kind > 2 ? Answer(request, "x")
                     : AnswerStatus(request, {.status = status,
                                              .not_executed = kind == 1,
                                              .retry_after = random.Number(0, 2) == 0
                                                                 ? std::optional(absl::Milliseconds(5))
                                                                 : std::nullopt}));
      }
    }
  }
  EXPECT_GT(fleet_->hedges(), 100u);
  test::RunIn(*loop_, [this] { fleet_->Close(absl::CancelledError("the test ends")); });
  loop_->RunUntilIdle();
  for (const TestCall& call : calls_) EXPECT_TRUE(call.ended);
  EXPECT_FALSE(fleet_->has_calls());
}

}  // namespace
}  // namespace ferry
