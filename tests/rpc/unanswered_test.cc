// What the status of a call to one server says when the server has not ended it: over one connection, and
// over a pool of several.
#include <cerrno>
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
#include "ferry/rpc/connection_pool.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/server_target.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/error_number.h"
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

class UnansweredTest : public testing::TestWithParam<bool> {
 protected:
  ~UnansweredTest() override {
    test::RunIn(*loop_, [this] { target_->Close(absl::CancelledError("the test ends")); });
  }

  TestCall& Start(const MethodDescriptor& method = test::kEchoMethod,
                  absl::Duration timeout = absl::InfiniteDuration()) {
    TestCall& call = calls_.emplace_back("hello", clock_.Now() + timeout);
    call.method = &method;
    target_->Start(call, call.request, call.request.ByteSizeLong());
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

  std::shared_ptr<ServerTarget> Create() {
    const Endpoint::Options options{.name = "greeter:80", .max_waiting_calls = 2};
    auto connector = std::make_unique<ScriptedConnector>(script_);
    if (!GetParam()) return Endpoint::Create(options, *loop_, std::move(connector));
    return ConnectionPool::Create({.pool = {.max_connections = 2}, .endpoint = options, .seed = 1}, *loop_,
                                  std::move(connector));
  }

  transport::ManualClock clock_;
  std::deque<TestCall> calls_;
  ScriptedConnector::Script script_;
  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  std::shared_ptr<ServerTarget> target_ = Create();
  std::unique_ptr<RawPeer> peer_;
};

// A pool sends nothing before a server has introduced itself.
class UnansweredEarlyTest : public UnansweredTest {};

TEST_P(UnansweredTest, NobodyListens) {
  script_.failures = 1000;
  Expect(Start(), StatusCode::kUnavailable, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
  EXPECT_EQ(calls_.back().failure->peer(), "greeter:80");
  // And while it waits to connect again.
  Expect(Start(), StatusCode::kUnavailable, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredTest, TheDeadlinePassesWhileConnecting) {
  script_.hang = true;
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredTest, TheDeadlinePassesBeforeTheServerIntroducesItself) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Accept();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredEarlyTest, AServerThatNeverIntroducesItselfMayHaveExecutedWhatWasSentEarly) {
  TestCall& call = Start(test::kIdempotentEchoMethod, kTimeout);
  Accept();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::HANDSHAKE, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_P(UnansweredTest, ServersThatEndConnectionsAtOnce) {
  TestCall& call = Start();
  for (int i = 0; i < Endpoint::kMaxTurnedAway && !call.ended; ++i) {
    while (script_.far_ends.empty()) Advance(absl::Seconds(1));
    Accept().Close();
    script_.far_ends.clear();
    loop_->RunUntilIdle();
  }
  Expect(call, StatusCode::kUnavailable, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredEarlyTest, EarlyRequestsThatWereSentAgainAreCounted) {
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

TEST_P(UnansweredTest, TheDeadlinePassesWhileTheConnectionIsFull) {
  TestCall& first = Start();
  Greet({.max_streams = 2});
  TestCall& second = Start(test::kEchoMethod, kTimeout);
  Advance(kTimeout);
  Expect(second, StatusCode::kDeadlineExceeded, CallFailure::QUEUE, CallFailure::NOT_SENT, 0);
  EXPECT_FALSE(first.ended);
}

TEST_P(UnansweredTest, TooManyCallsWait) {
  script_.hang = true;
  Start();
  Start();
  Expect(Start(), StatusCode::kResourceExhausted, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredTest, NoAnswerComesBeforeTheDeadline) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  Greet();
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
  EXPECT_EQ(call.failure->peer(), "in-process");
}

TEST_P(UnansweredTest, APartOfTheAnswerHasCome) {
  TestCall& call = Start(test::kEchoMethod, kTimeout);
  const std::optional<ReceivedFrame> request = Greet().TakeFrame();
  ASSERT_TRUE(request.has_value());
  peer_->Send(test::EncodeFrame(
      {.type = FrameType::kResponse, .flags = transport::kMore, .stream = request->header.stream},
      *EncodeResponseHead({}, {}, 100, 16384), "x"));
  Advance(kTimeout);
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::READING, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_P(UnansweredTest, TheServerGoesAway) {
  TestCall& call = Start();
  Greet().Close();
  loop_->RunUntilIdle();
  Expect(call, StatusCode::kUnavailable, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("; the call may have been executed"));
}

TEST_P(UnansweredTest, TheCallerCancelsBeforeAndAfterSending) {
  TestCall& waiting = Start();
  test::RunIn(*loop_, [&] { target_->CancelCall(waiting, absl::CancelledError("not wanted")); });
  Expect(waiting, StatusCode::kCancelled, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
  TestCall& sent = Start();
  Greet();
  test::RunIn(*loop_, [&] { target_->CancelCall(sent, absl::CancelledError("not wanted")); });
  Expect(sent, StatusCode::kCancelled, CallFailure::SENT, CallFailure::MAYBE_EXECUTED, 1);
}

TEST_P(UnansweredTest, ClosingTellsHowFarCallsHadCome) {
  TestCall& call = Start();
  test::RunIn(*loop_, [this] { target_->Close(absl::CancelledError("closed")); });
  Expect(call, StatusCode::kCancelled, CallFailure::HANDSHAKE, CallFailure::NOT_SENT, 0);
}

TEST_P(UnansweredTest, ACallThatIsNotStartedSaysSo) {
  TestCall& call = calls_.emplace_back();
  target_->FailLater(call, absl::InvalidArgumentError("metadata is malformed"));
  loop_->RunUntilIdle();
  Expect(call, StatusCode::kInvalidArgument, CallFailure::PHASE_UNSPECIFIED, CallFailure::NOT_SENT, 0);
  EXPECT_EQ(call.failure->peer(), "greeter:80");
}

TEST_P(UnansweredTest, TheErrorNumberIsInTheFailureAlone) {
  script_.failures = 1000;
  script_.failure = transport::WithErrorNumber(absl::UnavailableError("nobody listens there"), ECONNREFUSED);
  TestCall& call = Start();
  Expect(call, StatusCode::kUnavailable, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
  EXPECT_EQ(call.failure->errno_value(), ECONNREFUSED);
  EXPECT_EQ(call.status, absl::UnavailableError("nobody listens there"));
}

TEST_P(UnansweredTest, TheErrorNumberIsKeptForCallsWhoseDeadlinePassesMeanwhile) {
  script_.failures = 1000;
  script_.failure = transport::WithErrorNumber(absl::UnavailableError("nobody listens there"), ECONNREFUSED);
  TestCall& call = calls_.emplace_back("hello", clock_.Now() + absl::Milliseconds(1));
  call.wait_for_ready = true;
  target_->Start(call, call.request, call.request.ByteSizeLong());
  loop_->RunUntilIdle();
  Advance(absl::Milliseconds(1));
  Expect(call, StatusCode::kDeadlineExceeded, CallFailure::CONNECT, CallFailure::NOT_SENT, 0);
  EXPECT_EQ(call.failure->errno_value(), ECONNREFUSED);
  EXPECT_EQ(transport::ErrorNumberOf(call.status), 0);
}

TEST_P(UnansweredTest, AServerThatLetsNoCallInHasAnswered) {
  TestCall& call = Start();
  const std::optional<ReceivedFrame> request = Greet().TakeFrame();
  ASSERT_TRUE(request.has_value());
  peer_->Send(test::EncodeHeadFrame(
      FrameType::kStatus,
      EncodeStatusHead({.status = absl::ResourceExhaustedError("the queue is full"), .not_executed = true},
                       16384),
      request->header.stream, transport::kEndStream));
  EXPECT_EQ(call.status, absl::ResourceExhaustedError("the queue is full"));
  EXPECT_FALSE(call.failure.has_value());
}

TEST_P(UnansweredTest, AnAnswerSaysAllByItself) {
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

INSTANTIATE_TEST_SUITE_P(Targets, UnansweredTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Pool" : "Endpoint"; });
INSTANTIATE_TEST_SUITE_P(Targets, UnansweredEarlyTest, testing::Values(false));

}  // namespace
}  // namespace ferry
