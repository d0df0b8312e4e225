// How a client's session carries streams, frame by frame.
#include "ferry/rpc/client_stream.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/client_session.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::FaultyStream;
using test::RawPeer;
using test::ReceivedFrame;
using test::Text;
using testing::HasSubstr;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

constexpr uint64_t kFeatures = kFlowControlFeature | kStreamingFeature;
constexpr MethodDescriptor kChat{.full_name = "ferry.test.Echo/Chat",
                                 .id = MethodId("ferry.test.Echo/Chat"),
                                 .client_streaming = true,
                                 .server_streaming = true};
constexpr MethodDescriptor kCollect{.full_name = "ferry.test.Echo/Collect",
                                    .id = MethodId("ferry.test.Echo/Collect"),
                                    .client_streaming = true};
constexpr MethodDescriptor kWatch{
    .full_name = "ferry.test.Echo/Watch", .id = MethodId("ferry.test.Echo/Watch"), .server_streaming = true};

Text TextOf(const std::string& text) {
  Text message;
  message.set_text(text);
  return message;
}

std::string Encoded(const std::string& text) { return TextOf(text).SerializeAsString(); }

std::string Message(const std::string& bytes, uint8_t flags = 0, const std::string& head = "") {
  return EncodeFrame({.type = FrameType::kMessage, .flags = flags, .stream = StreamId::Make(1, 0)}, head,
                     bytes);
}

std::string Response(const std::string& bytes = "", uint8_t flags = kEndStream) {
  return EncodeFrame({.type = FrameType::kResponse, .flags = flags, .stream = StreamId::Make(1, 0)}, "",
                     bytes);
}

class ClientStreamTest : public testing::TestWithParam<size_t>, private ClientSession::Owner {
 protected:
  ClientStreamTest() {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    ClientSession::Options options{.settings = {.initial_stream_window = 100'000, .features = kFeatures}};
    session_ = std::make_shared<ClientSession>(
        options, *loop_, static_cast<ClientSession::Owner&>(*this),
        std::make_unique<FaultyStream>(
            std::move(pair.first), FaultyStream::Faults{.max_read = GetParam(), .max_write = GetParam()}));
    InLoop([&] { session_->Begin(); });
    peer_ = std::make_unique<RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    peer_->Send(test::Preface() + test::EncodeSettingsFrame({.features = kFeatures}));
    EXPECT_TRUE(peer_->TakePreface());
    EXPECT_TRUE(peer_->TakeFrame().has_value());
  }
  ~ClientStreamTest() override {
    InLoop([&] { session_->Close(absl::CancelledError("the test ends")); });
  }

  std::shared_ptr<ClientStreamCall> Start(const MethodDescriptor& method = kChat) {
    auto call = std::make_shared<ClientStreamCall>(*loop_, nullptr, 100'000, 1'000'000);
    call->method = &method;
    call->deadline = transport::Instant::Infinite();
    call->KeepUntilComplete();
    InLoop([&] { EXPECT_EQ(session_->Start(*call, Text(), 0), ClientSession::Started::kYes); });
    const std::optional<ReceivedFrame> request = peer_->TakeFrame();
    EXPECT_TRUE(request.has_value() && request->header.type == FrameType::kRequest);
    EXPECT_EQ(request->header.flags, 0);
    return call;
  }

  // What can be read now: the text, "-" if nothing has come, "." at the end.
  static std::string Read(ClientStreamCall& call) {
    Text text;
    switch (call.TryRead(text)) {
      case MessageQueue::Taken::kMessage:
        return text.text();
      case MessageQueue::Taken::kNothing:
        return "-";
      case MessageQueue::Taken::kEnd:
        break;
    }
    return ".";
  }

  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }

  transport::ManualClock clock_;
  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  std::shared_ptr<ClientSession> session_;
  std::unique_ptr<RawPeer> peer_;
  absl::Status session_end_;

 private:
  void OnNoMoreCalls(ClientSession&, const absl::Status& why) override { session_end_ = why; }
  void OnSessionClosed(ClientSession&) override {}
  void OnSlotFree() override {}
  void OnIntroduced(ClientSession&) override {}
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    for (ClientCall* call : calls) call->End(why);
  }
};

INSTANTIATE_TEST_SUITE_P(Slices, ClientStreamTest, testing::Values(SIZE_MAX, 1),
                         [](const testing::TestParamInfo<size_t>& info) {
                           return std::string(info.param == 1 ? "OneByte" : "Whole");
                         });

// A WINDOW for each would be a flood to the server (PROTOCOL.md [P14.5]).
TEST_P(ClientStreamTest, GrantsHalfAWindowAtATimeForMessagesThatComeTooLate) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  call->Fail(absl::CancelledError("enough"));
  EXPECT_THAT(peer_->TakeFrames(), SizeIs(1));  // CANCEL
  std::string messages;
  size_t cost = 0;
  for (int i = 0; i < 10'000; ++i) {
    messages += Message("x");
    cost += WindowCost(transport::FrameHeader{.length = 1});
  }
  peer_->Send(messages);
  size_t granted = 0;
  for (const ReceivedFrame& frame : peer_->TakeFrames()) {
    EXPECT_EQ(frame.header.type, FrameType::kWindow);
    EXPECT_EQ(frame.header.stream, StreamId::Make(1, 0));
    const absl::StatusOr<uint32_t> increment = DecodeWindowHead(frame.head());
    ASSERT_TRUE(increment.ok()) << increment.status();
    EXPECT_GE(*increment, 50'000u);
    granted += *increment;
  }
  EXPECT_GT(granted, 0u);
  EXPECT_LE(granted, cost);
  EXPECT_LT(cost - granted, 50'000u);
}

// Nothing of it was sent: the use of its slot is the next call's then.
TEST_P(ClientStreamTest, ACallThatIsCancelledInTwoWaysAtOnceLeavesTheNextOneAlone) {
  const Text large = TextOf(std::string(1'000'000, 'x'));
  const auto start = [&] {
    auto call = std::make_shared<ClientStreamCall>(*loop_, nullptr, 100'000, 1'000'000);
    call->method = &kWatch;
    call->deadline = transport::Instant::Infinite();
    call->head = EncodeRequestHead({}, large.ByteSizeLong(), 16 * 1024).value();
    call->KeepUntilComplete();
    EXPECT_EQ(session_->Start(*call, large, large.ByteSizeLong()), ClientSession::Started::kYes);
    return call;
  };
  std::shared_ptr<ClientStreamCall> cancelled, next;
  InLoop([&] {
    // More than the connection's window takes.
    for (int i = 0; i < 20; ++i) start();
    cancelled = start();
    // The loop does this later.
    cancelled->Fail(absl::CancelledError("by its handle"));
    session_->Abandon(cancelled->stream, absl::CancelledError("by its token"));
    next = start();
  });
  EXPECT_EQ(next->stream, cancelled->stream);
  Stream::Waiter waiter = [] {};
  EXPECT_FALSE(cancelled->WhenEnded(waiter));
  EXPECT_TRUE(next->WhenEnded(waiter)) << "it has ended";
}

TEST_P(ClientStreamTest, WritesMessagesAndThenTheEnd) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  EXPECT_EQ(call->TryWrite(TextOf("a")), Stream::Wrote::kYes);
  EXPECT_TRUE(call->FinishWriting());
  EXPECT_EQ(call->TryWrite(TextOf("b")), Stream::Wrote::kEnded);
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].message(), Encoded("a"));
  EXPECT_EQ(frames[1].header.type, FrameType::kMessage);
  EXPECT_EQ(frames[1].header.flags, kEndStream);
  EXPECT_EQ(frames[1].header.length, 0u);
}

TEST_P(ClientStreamTest, ReadsWhatCameBeforeTheEnd) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  EXPECT_EQ(Read(*call), "-");
  peer_->Send(Message(Encoded("one")) + Message(Encoded("two")) + Response());
  EXPECT_EQ(Read(*call), "one");
  EXPECT_EQ(Read(*call), "two");
  EXPECT_EQ(Read(*call), ".");
  EXPECT_TRUE(call->end_status().ok());
  EXPECT_FALSE(call->FinishWriting());
}

TEST_P(ClientStreamTest, AStatusEndsACallBehindItsWholeMessages) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  wire::MessageHead length;
  length.set_message_length(100);
  peer_->Send(Message(Encoded("one")) + Message("part", kMore, length.SerializeAsString()) +
              EncodeHeadFrame(FrameType::kStatus,
                              EncodeStatusHead({.status = absl::DataLossError("oh")}, 16384),
                              StreamId::Make(1, 0), kEndStream));
  EXPECT_EQ(Read(*call), "one");
  EXPECT_EQ(Read(*call), ".");
  EXPECT_EQ(call->end_status(), absl::DataLossError("oh"));
}

TEST_P(ClientStreamTest, ALostConnectionIsNoEndOfTheStream) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  peer_->Send(Message(Encoded("one")));
  peer_->FinishWriting();
  EXPECT_EQ(Read(*call), "one");
  EXPECT_EQ(Read(*call), ".");
  EXPECT_EQ(call->end_status().code(), StatusCode::kUnavailable);
}

TEST_P(ClientStreamTest, CancelIsSentOnceAndTheRestIgnored) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  call->Fail(absl::CancelledError("enough"));
  call->Fail(absl::AbortedError("again"));
  loop_->RunUntilIdle();
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kCancel);
  EXPECT_EQ(call->end_status(), absl::CancelledError("enough"));
  // So that the server can send what it must send before it can end the call.
  const std::string late = Encoded(std::string(60'000, 'x'));
  peer_->Send(Message(late));
  const std::optional<ReceivedFrame> window = peer_->TakeFrame();
  ASSERT_TRUE(window.has_value());
  EXPECT_EQ(window->header.stream, StreamId::Make(1, 0));
  EXPECT_EQ(*DecodeWindowHead(window->head()), late.size() + 12);
  peer_->Send(Response());
  EXPECT_TRUE(session_end_.ok()) << session_end_;
  EXPECT_EQ(Read(*call), ".");
}

// Its reader is told of an end at once, so what the server has said meanwhile must not end it with OK.
TEST_P(ClientStreamTest, ACancelledCallDoesNotEndWithAnAnswerThatWasUnderWay) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  loop_->Post([&] { call->Fail(absl::CancelledError("enough")); });
  peer_->Send(Message(Encoded("one")) + Response());
  EXPECT_EQ(Read(*call), ".");
  EXPECT_EQ(call->end_status(), absl::CancelledError("enough"));
}

TEST_P(ClientStreamTest, AMessageThatDoesNotParseIsNoGoodEnd) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  peer_->Send(Message("\xff") + Response());
  EXPECT_EQ(Read(*call), ".");
  EXPECT_EQ(call->end_status().code(), StatusCode::kInternal);
  EXPECT_THAT(std::string(call->end_status().message()), HasSubstr("message of 1 bytes does not parse"));
}

TEST_P(ClientStreamTest, TakesTheOnlyReplyOfAStreamOfRequests) {
  const std::shared_ptr<ClientStreamCall> call = Start(kCollect);
  peer_->Send(Response(Encoded("sum")));
  Text reply;
  EXPECT_TRUE(call->end_status().ok());
  EXPECT_TRUE(call->ReadOnlyReply(reply));
  EXPECT_EQ(reply.text(), "sum");
}

TEST_P(ClientStreamTest, AnswersThatBreakTheRulesEndTheCall) {
  const struct {
    const char* name;
    std::string bytes;
    const char* text;
  } kCases[] = {
      {"a MESSAGE with END_STREAM", Message("", kEndStream), "MESSAGE frame with END_STREAM is in a stream"},
      {"a RESPONSE with MORE", Response("x", kMore), "RESPONSE frame with MORE is in a stream of replies"},
      {"a RESPONSE with a message", Response("x"), "response of 1 bytes does not parse"},
      {"a message over the limit",
       Message(std::string(10, 'x'), kMore,
               [] {
                 wire::MessageHead head;
                 head.set_message_length(1'000'001);
                 return head.SerializeAsString();
               }()),
       "message is 1000001 bytes, limit is 1000000"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const std::shared_ptr<ClientStreamCall> call = Start();
    std::string bytes = c.bytes;
    // Each call has the next generation of the slot.
    const StreamId stream = call->stream;
    for (int i = 0; i < 4; ++i) bytes[8 + i] = static_cast<char>(stream.value() >> 8 * i);
    peer_->Send(bytes);
    EXPECT_THAT(std::string(call->end_status().message()), HasSubstr(c.text));
    EXPECT_TRUE(session_end_.ok()) << session_end_;
    peer_->TakeFrames();
    // The server ends it too, where it has not.
    std::string end = Response();
    for (int i = 0; i < 4; ++i) end[8 + i] = static_cast<char>(stream.value() >> 8 * i);
    peer_->Send(end);
  }
}

TEST_P(ClientStreamTest, AResponseInsideAMessageIsNoGoodEnd) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  wire::MessageHead length;
  length.set_message_length(100);
  peer_->Send(Message("part", kMore, length.SerializeAsString()) + Response());
  EXPECT_EQ(call->end_status().code(), StatusCode::kInternal);
}

TEST_P(ClientStreamTest, MoreThanTheWindowEndsTheConnection) {
  const std::shared_ptr<ClientStreamCall> call = Start();
  // And more than the default, for the server may not have read yet that the window is smaller.
  for (int i = 0; i < 18; ++i) peer_->Send(Message(std::string(60'000, 'x')));
  EXPECT_EQ(session_end_.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(session_end_.message()),
              HasSubstr("slot 1 has received more than its window of 100000"));
  EXPECT_EQ(call->end_status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace ferry
