// What the status of a call to one server says when the server has not ended it.
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
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
using testing::HasSubstr;
using transport::FrameType;

constexpr absl::Duration kTimeout = absl::Seconds(1);

class UnansweredTest : public testing::Test {
 protected:
  ~UnansweredTest() override {
    test::RunIn(*loop_, [this] { endpoint_->Close(absl::CancelledError("the test ends")); });
  }

  TestCall& Start(const MethodDescriptor& method = test::kEchoMethod,
                  absl::Duration timeout = absl::InfiniteDuration()) {
    TestCall& call = calls_.emplace_back("hello", clock_.Now() + timeout);
    call.method = &method;
    endpoint_->Start(call, call.request, call.request.ByteSizeLong());
    loop_->RunUntilIdle();
    return call;
  }
  // The server's end of the connection, before or after its SETTINGS.
  RawPeer& Accept() {
    peer_ = std::make_unique<RawPeer>(std::move(script_.far_ends.back()), [this] { loop_->RunUntilIdle(); });
    return *peer_;
  }
  RawPeer& Greet(const WireSettings& settings = {}) {
    Accept().Send(test::Preface() + test::EncodeSettingsFrame(settings));
    EXPECT_TRUE(peer_->TakePreface());
    EXPECT_TRUE(peer_->TakeFrame().has_value()) << "SETTINGS";
    return *peer_;
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  void Expect(const TestCall& call, StatusCode code, CallFailure::Phase phase,
              CallFailure::Execution execution, int attempts) {
    EXPECT_TRUE(call.ended);
    EXPECT_EQ(call.status.code(), code) << call.status;
    ASSERT_TRUE(call.failure.has_value());
    EXPECT_EQ(call.failure->phase(), phase) << call.failure->DebugString();
    EXPECT_EQ(call.failure->execution(), execution);
    EXPECT_EQ(call.failure->attempt_count(), attempts);
  }

  transport::ManualClock clock_;
  std::deque<TestCall> calls_;
  ScriptedConnector::Script script_;
  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  std::shared_ptr<Endpoint> endpoint_ = Endpoint::Create(
      {.name = "greeter:80", .max_waiting_calls = 2}, *loop_, std::make_unique<ScriptedConnector>(script_));
  std::unique_ptr<RawPeer> peer_;
};

TEST_F(UnansweredTest, NobodyListens) {
  script_.failures = 1000;
  Expect(Start(), StatusCode::kUnavailable, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
  EXPECT_EQ(calls_.back().failure->peer(), "greeter:80");
  // And while it waits to connect again.
  Expect(Start(), StatusCode::kUnavailable, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, TheDeadlinePassesWhileConnecting) {
  script_.hang = true;
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, TheDeadlinePassesBeforeTheServerIntroducesItself) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Accept();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, AServerThatNeverIntroducesItselfMayHaveExecutedWhatWasSentEarly) {
  TestCall& call = Start(test::kIdempotentEchoMethod, kTimeout);
  Accept();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::HANDSHAKE, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_F(UnansweredTest, ServersThatEndConnectionsAtOnce) {
  TestCall& call = Start();
  for (int i = 0; i < Endpoint::kMaxTurnedAway && !call.ended; ++i) {
    while (script_.far_ends.empty()) Advance(absl::Seconds(1));
    Accept().Close();
    script_.far_ends.clear();
    loop_->RunUntilIdle();
  }
  Expect(call, StatusCode::kUnavailable, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, EarlyRequestsThatWereSentAgainAreCounted) {
  TestCall& call = Start(test::kIdempotentEchoMethod);
  for (int i = 0; i < Endpoint::kMaxTurnedAway && !call.ended; ++i) {
    while (script_.far_ends.empty()) Advance(absl::Seconds(1));
    RawPeer& peer = Accept();
    script_.far_ends.clear();
    EXPECT_TRUE(peer.TakePreface());
    EXPECT_TRUE(peer.TakeFrame().has_value()) << "SETTINGS";
    const std::optional<ReceivedFrame> request = peer.TakeFrame();
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(AttemptOf(request->head()), i + 1);
    peer.Close();
    loop_->RunUntilIdle();
  }
  EXPECT_TRUE(call.ended);
  EXPECT_EQ(call.failure.value_or(CallFailure()).execution(), CallFailure::MAYBE_EXECUTED);
}

TEST_F(UnansweredTest, TheDeadlinePassesWhileTheConnectionIsFull) {
  TestCall& first = Start();
  Greet({.max_streams = 2});
  TestCall& second = Start(test::kEchoMethod, kTimeout);
  Advance(kTimeout);
  Expect(second, StatusCode::kDeadlineExceeded, CallFailure::QUEUE, CallFailure::NOT_SENT, 0);
  EXPECT_FALSE(first.ended);
}

TEST_F(UnansweredTest, TooManyCallsWait) {
  script_.hang = true;
  Start();
  Start();
  Expect(Start(), StatusCode::kResourceExhausted, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, NoAnswerComesBeforeTheDeadline) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Greet();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
  EXPECT_EQ(call.failure->peer(), "in-process");
}

TEST_F(UnansweredTest, APartOfTheAnswerHasCome) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  const std::optional<ReceivedFrame> request = Greet().TakeFrame();
  ASSERT_TRUE(request.has_value());
  peer_->Send(test::EncodeFrame(
      {.type = FrameType::kResponse, .flags = transport::kMore, .stream = request->header.stream},
      *EncodeResponseHead({}, {}, 100, 16384), "x"));
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::READING, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_F(UnansweredTest, TheServerGoesAway) {
  TestCall& call = Start();
  Greet().Close();
  loop_->RunUntilIdle();
  Expect(call, StatusCode::kUnavailable, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("; the call may have been executed"));
}

TEST_F(UnansweredTest, TheCallerCancelsBeforeAndAfterSending) {
  TestCall& waiting = Start();
  test::RunIn(*loop_, [&] { endpoint_->CancelCall(waiting, absl::CancelledError("not wanted")); });
  Expect(waiting, StatusCode::kCancelled, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
  TestCall& sent = Start();
  Greet();
  test::RunIn(*loop_, [&] { endpoint_->CancelCall(sent, absl::CancelledError("not wanted")); });
  Expect(sent, StatusCode::kCancelled, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_F(UnansweredTest, ClosingTellsHowFarCallsHadCome) {
  TestCall& call = Start();
  test::RunIn(*loop_, [this] { endpoint_->Close(absl::CancelledError("closed")); });
  Expect(call, StatusCode::kCancelled, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_F(UnansweredTest, AnAnswerSaysAllByItself) {
  TestCall& call = Start();
  const std::optional<ReceivedFrame> request = Greet().TakeFrame();
  ASSERT_TRUE(request.has_value());
  // The server's own call has failed, and its handler hands that on.
  absl::Status status = absl::UnavailableError("the database is away");
  CallFailure upstream;
  upstream.set_execution(CallFailure::NOT_SENT);
  SetFailure(upstream, status);
  status.SetPayload("type.googleapis.com/other", absl::Cord("kept"));
  peer_->Send(test::EncodeHeadFrame(FrameType::kStatus, EncodeStatusHead({.status = status}, 16384),
                                    request->header.stream, transport::kEndStream));
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_FALSE(call.failure.has_value()) << "it would say that this call was not executed";
  EXPECT_TRUE(call.status.GetPayload("type.googleapis.com/other").has_value());
}

}  // namespace
}  // namespace ferry
