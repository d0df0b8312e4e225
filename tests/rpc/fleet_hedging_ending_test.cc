// What the failures of its attempts are to a call that a fleet sends to several servers, and how it ends.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/fleet_hedging_fixture.h"
#include "tests/testing/random.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::ReceivedFrame;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using transport::FrameType;

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
