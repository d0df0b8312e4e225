// The calls of an endpoint that a server has not taken, and that go to the next one.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/message_queue.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/endpoint_fixture.h"
#include "tests/testing/plain_status.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::Plain;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::StreamId;

// ---------------------------------------------------------------- DRAIN

TEST_F(EndpointTest, SendsCallsBeyondDrainAgainBeforeOthers) {
  Create();
  TestCall& first = StartAndSettle(NewCallOf("first"));
  RawPeer& peer = Greet(0, {.max_streams = 5});
  for (const char* text : {"second", "third", "fourth", "waits"}) StartAndSettle(NewCallOf(text));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("first", "second", "third", "fourth"));
  // The slots' order is not the calls'.
  peer.Send(Response(2));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("waits"));
  StartAndSettle(NewCallOf("later"));
  peer.Send(Drain(2));
  RawPeer& next = Greet(1);
  EXPECT_THAT(TextsOf(next.TakeFrames()), ElementsAre("third", "fourth", "waits", "later"));
  next.Send(Response(1) + Response(2) + Response(3) + Response(4));
  EXPECT_FALSE(first.ended);
  peer.Send(Response(1));
  for (const TestCall& call : calls_) EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, SendsTheSameRequestAgain) {
  // In every way that a request is kept: a copy of few bytes, a block, the caller's message; one that waited.
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  std::vector<std::string> texts;
  for (const size_t size : {0u, 1u, 100u, 4000u, 5000u, 60'000u}) {
    for (const bool lasts : {false, true}) {
      TestCall& call = NewCallOf(std::string(size, static_cast<char>('a' + texts.size())));
      if (lasts) call.lasting_request = &call.request;
      texts.push_back(call.request.text());
      StartAndSettle(call);
      if (!lasts) call.request.Clear();
    }
  }
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAreArray(texts));
  for (size_t i = 1; i < 4; ++i) {
    Peer(i - 1).Send(Drain(i == 1 ? 1 : 0));
    while (script_.attempts.size() <= i) Advance(absl::Milliseconds(1));
    EXPECT_THAT(TextsOf(Greet(i).TakeFrames()), ElementsAreArray(texts));
  }
}

TEST_F(EndpointTest, SendsAMessageInFragmentsAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  TestCall& large = NewCallOf(std::string(200'000, 'x'));
  large.head = *EncodeRequestHead({}, large.request.ByteSizeLong(), 65'535);
  StartAndSettle(large);
  large.request.Clear();
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  EXPECT_THAT(frames, SizeIs(4));
  peer.Send(Drain(1));
  const std::vector<ReceivedFrame> again = Greet(1).TakeFrames();
  ASSERT_THAT(again, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(again[i].message(), frames[i].message());
}

constexpr MethodDescriptor kWatchMethod{
    .full_name = "ferry.test.Echo/Watch", .id = MethodId("ferry.test.Echo/Watch"), .server_streaming = true};
constexpr MethodDescriptor kChatMethod{.full_name = "ferry.test.Echo/Chat",
                                       .id = MethodId("ferry.test.Echo/Chat"),
                                       .client_streaming = true,
                                       .server_streaming = true};

TEST_F(EndpointTest, SendsAStreamAgainUnlessAnyMessageWasWritten) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  test::Text text;
  text.set_text("hello");
  const auto start = [&](const MethodDescriptor& method, const google::protobuf::MessageLite& request) {
    auto call = std::make_shared<ClientStreamCall>(*loop_, nullptr, 1 << 20, 1 << 20);
    call->KeepUntilComplete();
    call->method = &method;
    call->deadline = transport::Instant::Infinite();
    endpoint_->Start(*call, request, request.ByteSizeLong());
    loop_->RunUntilIdle();
    return call;
  };
  const std::shared_ptr<ClientStreamCall> watch = start(kWatchMethod, text);
  const std::shared_ptr<ClientStreamCall> silent = start(kChatMethod, test::Text());
  const std::shared_ptr<ClientStreamCall> chat = start(kChatMethod, test::Text());
  EXPECT_EQ(chat->TryWrite(text), Stream::Wrote::kYes);
  peer.Send(Drain(1));
  EXPECT_EQ(Plain(chat->end_status()),
            absl::UnavailableError("the server takes no more calls, this one was not executed"));

  RawPeer& next = Greet(1);
  const std::vector<ReceivedFrame> again = next.TakeFrames();
  ASSERT_THAT(again, SizeIs(2));
  EXPECT_EQ(again[0].message(), text.SerializeAsString());
  // What is written now goes to the new server.
  EXPECT_EQ(silent->TryWrite(text), Stream::Wrote::kYes);
  loop_->RunUntilIdle();
  EXPECT_THAT(next.TakeFrames(), SizeIs(1));
  next.Send(EncodeFrame({.type = FrameType::kMessage, .stream = StreamId::Make(1, 0)}, "",
                        text.SerializeAsString()) +
            Response(1) + Response(2));
  test::Text reply;
  EXPECT_EQ(watch->TryRead(reply), MessageQueue::Taken::kMessage);
  EXPECT_EQ(reply.text(), "hello");
  EXPECT_TRUE(watch->end_status().ok()) << watch->end_status();
  EXPECT_TRUE(silent->end_status().ok()) << silent->end_status();
}

TEST_F(EndpointTest, KeepsTheDeadlineOfACallThatIsSentAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  TestCall& sent = StartAndSettle(NewCallOf("sent", false, In(absl::Milliseconds(500))));
  TestCall& waits = StartAndSettle(NewCallOf("waits", false, In(absl::Milliseconds(200))));
  Advance(absl::Milliseconds(100));
  peer.Send(Drain(1));
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(waits.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(waits.status.message()), HasSubstr("it was not executed, turned away 1 time"));
  RawPeer& next = Greet(1);
  const std::optional<ReceivedFrame> request = next.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 300'000u);
  Advance(absl::Milliseconds(300));
  EXPECT_EQ(sent.status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(EndpointTest, EndsCallsThatWereNotExecutedWhenItCannotConnectAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.Send(Response(1));
  TestCall& call = StartAndSettle(NewCall());
  TestCall& waits = StartAndSettle(NewCallOf("waits", /*wait_for_ready=*/true));
  script_.failures = 1;
  peer.Send(Drain(1));
  EXPECT_EQ(call.status,
            absl::UnavailableError("nobody listens there, it was not executed, turned away 1 time"));
  EXPECT_FALSE(waits.ended);
  Advance(absl::Seconds(1));
  EXPECT_THAT(TextsOf(Greet(1).TakeFrames()), ElementsAre("waits"));
}

TEST_F(EndpointTest, EndsCallsThatWaitToBeSentAgainWhenItCloses) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  TestCall& beyond = StartAndSettle(NewCall());
  TestCall& cancelled = StartAndSettle(NewCall());
  script_.hang = true;
  peer.Send(Drain(1));
  InLoop([&] { endpoint_->CancelCall(cancelled, absl::CancelledError("by its caller")); });
  EXPECT_EQ(cancelled.status, absl::CancelledError("by its caller"));
  EXPECT_FALSE(beyond.ended);
  Close();
  EXPECT_EQ(beyond.status, absl::CancelledError("the test ends"));
}

TEST_F(EndpointTest, SendsCallsAgainThatTheServerHadNoSlotFor) {
  Create();
  TestCall& first = NewCallOf("first");
  TestCall& second = NewCallOf("second");
  for (TestCall* call : {&first, &second}) {
    call->method = &test::kIdempotentEchoMethod;
    StartAndSettle(*call);
  }
  RawPeer& peer = Greet(0, {.max_streams = 2});
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("first", "second"));
  const WireStatus refusal{.status = absl::ResourceExhaustedError("stream slot is 2, limit is 1"),
                           .not_executed = true};
  peer.Send(EncodeHeadFrame(FrameType::kStatus, EncodeStatusHead(refusal, 16384), StreamId::Make(2, 0),
                            kEndStream));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
  EXPECT_FALSE(second.ended);
  peer.Send(Response(1));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("second"));
  peer.Send(Response(1, 1));
  EXPECT_TRUE(second.status.ok()) << second.status;
}

TEST_F(EndpointTest, SendsLaterCallsOverANewConnectionAfterDrain) {
  Create();
  TestCall& before = StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1));
  peer.Send(Drain(1));
  TestCall& after = StartAndSettle(NewCall());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
  EXPECT_THAT(script_.attempts, SizeIs(2));
  Greet(1).Send(Response(1));
  EXPECT_TRUE(after.status.ok()) << after.status;

  EXPECT_FALSE(before.ended);
  peer.Send(Response(1));
  EXPECT_TRUE(before.status.ok()) << before.status;
  peer.FinishWriting();
  EXPECT_TRUE(peer.ended());
}

TEST_F(EndpointTest, EndsCallsOfADrainedConnectionWhenItCloses) {
  Create();
  TestCall& call = StartAndSettle(NewCall());
  Greet().Send(Drain(1));
  EXPECT_FALSE(call.ended);
  Close();
  EXPECT_EQ(call.status, absl::CancelledError("the test ends"));
}

}  // namespace
}  // namespace ferry
