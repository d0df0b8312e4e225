// How a client's session runs its calls with a server that keeps to the protocol.
#include "ferry/rpc/client_session.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/error_number.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/client_session_fixture.h"
#include "tests/testing/capture.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, ClientSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

// ---------------------------------------------------------------- Calls and answers

TEST_P(ClientSessionTest, SendsARequestAndTakesTheReply) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  EXPECT_EQ(Start(call), Started::kYes);
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kRequest);
  EXPECT_EQ(frames[0].header.flags, kEndStream);
  EXPECT_EQ(frames[0].header.stream, kFirst);
  EXPECT_EQ(frames[0].message(), EncodedText("hello"));
  peer.Send(Response(kFirst, EncodedText("hi")));
  EXPECT_TRUE(call.status.ok()) << call.status;
  EXPECT_EQ(call.reply.text(), "hi");
}

TEST_P(ClientSessionTest, SendsRequestsBeforeTheServerHasSaidAnything) {
  RawPeer& peer = Connect();
  TestCall& call = NewCall();
  EXPECT_EQ(Start(call), Started::kYes);
  EXPECT_TRUE(peer.TakePreface());
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.type, FrameType::kSettings);
  EXPECT_EQ(frames[1].header.type, FrameType::kRequest);
}

TEST_P(ClientSessionTest, TakesStatusDetailsAndMetadata) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  absl::Status status = absl::NotFoundError("no user 7");
  status.SetPayload("type.googleapis.com/a.B", absl::Cord("detail"));
  peer.Send(Status(kFirst,
                   {.status = status, .initial_metadata = {{"a", "b"}}, .trailing_metadata = {{"c", "d"}}}));
  EXPECT_EQ(call.status, status);
  EXPECT_EQ(call.metadata.initial, Metadata({{"a", "b"}}));
  EXPECT_EQ(call.metadata.trailing, Metadata({{"c", "d"}}));
}

// What is known of a call's failure on this side is this side's to say.
TEST_P(ClientSessionTest, TakesNoErrorNumberFromTheServer) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  peer.Send(
      Status(kFirst, {.status = transport::WithErrorNumber(absl::UnavailableError("out of order"), 111)}));
  EXPECT_EQ(call.status, absl::UnavailableError("out of order"));
}

TEST_P(ClientSessionTest, TakesMetadataOfAReply) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  peer.Send(Response(kFirst, EncodedText("hi"), *EncodeResponseHead({{"a", "b"}}, {{"c", "d"}}, 0, 16384)));
  EXPECT_TRUE(call.status.ok()) << call.status;
  EXPECT_EQ(call.metadata.initial, Metadata({{"a", "b"}}));
  EXPECT_EQ(call.metadata.trailing, Metadata({{"c", "d"}}));
}

TEST_P(ClientSessionTest, TakesAReplyInFragments) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  const std::string message = EncodedText("hello");
  peer.Send(Response(kFirst, message.substr(0, 2), LengthHead(message.size()), kMore));
  peer.Send(Fragment(kFirst, message.substr(2, 2), kMore));
  EXPECT_FALSE(call.ended);
  peer.Send(Fragment(kFirst, message.substr(4), kEndStream));
  EXPECT_TRUE(call.status.ok()) << call.status;
  EXPECT_EQ(call.reply.text(), "hello");
}

TEST_P(ClientSessionTest, DropsHalfAReplyWhenAStatusEndsTheCall) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  peer.Send(Response(kFirst, "\x0a", LengthHead(100), kMore) +
            Status(kFirst, {.status = absl::DataLossError("oh")}));
  EXPECT_EQ(call.status, absl::DataLossError("oh"));
  EXPECT_FALSE(call.reply_fragments.active());
}

TEST_P(ClientSessionTest, AnswersPing) {
  RawPeer& peer = ConnectAndGreet();
  peer.Send(EncodeFrame({.type = FrameType::kPing}, "", "12345678"));
  const std::optional<ReceivedFrame> answer = peer.TakeFrame();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.flags, transport::kAck);
  EXPECT_EQ(answer->message(), "12345678");
}

TEST_P(ClientSessionTest, LetsACallStartAnotherFromItsEnd) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  first.on_end = [&] { EXPECT_EQ(Start(second), Started::kYes); };
  Start(first);
  peer.TakeFrames();
  peer.Send(Response(kFirst, EncodedText("x")));
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(1, 1));
}

// The parts of the document's conversation that this client can say: it sends no short fragments and no
// priorities.
TEST_P(ClientSessionTest, SaysWhatTheDocumentHasItSay) {
  const absl::StatusOr<std::string> document = test::ReadProtocolDocument();
  ASSERT_TRUE(document.ok()) << document.status();
  const absl::StatusOr<std::vector<test::CaptureRecord>> records =
      test::ParseCapture(*document, "conversation");
  ASSERT_TRUE(records.ok()) << records.status();
  const MethodDescriptor fail{.full_name = "ferry.test.Echo/Fail", .id = MethodId("ferry.test.Echo/Fail")};
  const MethodDescriptor none{.full_name = "ferry.test.Echo/None", .id = MethodId("ferry.test.Echo/None")};
  const MethodDescriptor wait{.full_name = "ferry.test.Echo/Wait", .id = MethodId("ferry.test.Echo/Wait")};
  TestCall calls[] = {TestCall("hello"), TestCall("7", In(absl::Milliseconds(20))), TestCall("x"),
                      TestCall("", In(absl::InfiniteDuration()))};
  calls[1].method = &fail;
  calls[1].head = *EncodeRequestHead({{"user", "ada"}}, 0, 16384);
  calls[2].method = &none;
  calls[3].method = &wait;

  RawPeer& peer = Connect({.settings = {.features = kFlowControlFeature | kStreamingFeature}});
  std::string sent;
  size_t next = 0;
  for (const test::CaptureRecord& record : *records) {
    SCOPED_TRACE(absl::StrCat("line ", record.line, ": ", record.name));
    if (next == 4) break;
    if (record.sender == Side::kServer) {
      peer.Send(record.bytes);
      continue;
    }
    if (record.name == "REQUEST") {
      EXPECT_EQ(Start(calls[next++]), Started::kYes);
    }
    sent += peer.TakeBytes();
    ASSERT_THAT(sent, testing::StartsWith(record.bytes));
    sent.erase(0, record.bytes.size());
  }
  EXPECT_EQ(sent, "");
  EXPECT_TRUE(calls[0].status.ok()) << calls[0].status;
  EXPECT_EQ(calls[0].reply.text(), "hello");
  EXPECT_EQ(calls[1].status.code(), StatusCode::kNotFound);
  EXPECT_EQ(calls[1].metadata.trailing, Metadata({{"shard", "3"}}));
  EXPECT_EQ(calls[2].status, absl::UnimplementedError("no method has id 0x02f9875162a53c7d"));
  EXPECT_FALSE(calls[3].ended);
  InLoop([&] { session_->Close(absl::CancelledError("that is all")); });
  EXPECT_EQ(calls[3].status, absl::CancelledError("that is all"));
}

}  // namespace
}  // namespace ferry
