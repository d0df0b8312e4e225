// What a server makes of connections that break the protocol: PROTOCOL.md section 14, line by line.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/bad_input_fixture.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::EncodeRequest;
using test::kEchoId;
using test::kWaitId;
using test::Preface;
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using testing::HasSubstr;
using transport::FrameHeader;
using transport::FrameType;
using transport::kConnectionStream;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, BadInputTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

// A header that need not make sense.
std::string EncodeHeader(const FrameHeader& header) {
  std::string bytes(transport::kFrameHeaderSize, '\0');
  EncodeFrameHeader(header, bytes.data());
  return bytes;
}

std::string Drain(uint64_t last_ordinal) {
  wire::DrainHead head;
  head.set_last_ordinal(last_ordinal);
  return EncodeHeadFrame(FrameType::kDrain, head.SerializeAsString());
}

struct Case {
  const char* name;
  std::string input;
  StatusCode code;
  const char* text;
  // The input ends here.
  bool end = false;
};

// ---------------------------------------------------------------- What ends the connection, and is told

// Frames that are wrong whatever came before them.
std::vector<Case> MalformedFrames() {
  const StreamId call = StreamId::Make(5, 0);
  return {
      {"a frame longer than the limit",
       EncodeHeader({.length = 300'000, .type = FrameType::kRequest, .stream = call}),
       StatusCode::kResourceExhausted, "frame length is 300000 bytes, limit is 262144"},
      {"an ignorable frame longer than the limit",
       EncodeHeader({.length = 262'145, .type = static_cast<FrameType>(200)}), StatusCode::kResourceExhausted,
       "frame length is 262145 bytes, limit is 262144"},
      {"a head longer than the limit",
       EncodeHeader({.length = 30'000,
                     .type = FrameType::kRequest,
                     .flags = kEndStream,
                     .head = 20'000,
                     .stream = call}),
       StatusCode::kResourceExhausted, "frame head is 20000 bytes, limit is 16384"},
      {"a head longer than its frame",
       EncodeHeader(
           {.length = 20, .type = FrameType::kRequest, .flags = kEndStream, .head = 30, .stream = call}),
       StatusCode::kInternal, "frame length is 20 bytes, its prefix of 12 and head of 30 need 42"},
      {"a request shorter than its prefix",
       EncodeHeader({.length = 11, .type = FrameType::kRequest, .flags = kEndStream, .stream = call}),
       StatusCode::kInternal, "frame length is 11 bytes, its prefix of 12 and head of 0 need 12"},
      {"an unknown required frame type", EncodeHeader({.type = static_cast<FrameType>(77)}),
       StatusCode::kInternal, "frame type is 77, known types are 1 to 9, and 128 and above are ignored"},
      {"frame type 0", EncodeHeader({}), StatusCode::kInternal, "frame type is 0, known types are 1 to 9"},
      {"reserved flags", EncodeHeader({.type = FrameType::kCancel, .flags = 0x21, .stream = call}),
       StatusCode::kInternal, "frame flags are 0x21, bits 0xe0 are reserved"},
      {"reserved attr", EncodeHeader({.type = FrameType::kCancel, .attr = 0x80, .stream = call}),
       StatusCode::kInternal, "frame attr is 0x80, bits 0xe0 are reserved"},
      {"a CANCEL with a head", EncodeHeadFrame(FrameType::kCancel, "abc", call), StatusCode::kInternal,
       "CANCEL frame has a head of 3 bytes, it must have none"},
      {"a PING of 7 bytes", EncodeFrame({.type = FrameType::kPing}, "", "1234567"), StatusCode::kInternal,
       "PING frame has 7 bytes after its head, it must have 8"},
      {"a RESPONSE from a client",
       EncodeFrame({.type = FrameType::kResponse, .flags = kEndStream, .stream = call}),
       StatusCode::kInternal, "RESPONSE frame on a call is from a client, only servers send it"},
      {"a request on stream 0", EncodeRequest({.slot = 0, .method = kEchoId}), StatusCode::kInternal,
       "REQUEST frame is on stream 0, it must be on a call's"},
      {"slot 0 with a generation", EncodeRequest({.slot = 0, .generation = 3, .method = kEchoId}),
       StatusCode::kInternal, "REQUEST frame is on slot 0 with generation 3"},
      {"END_STREAM and MORE together",
       EncodeRequest({.method = kEchoId, .flags = kEndStream | kMore, .message = "x"}), StatusCode::kInternal,
       "REQUEST frame has both END_STREAM and MORE"},
      {"a compressed message",
       EncodeFrame({.type = FrameType::kMessage,
                    .flags = kEndStream | transport::kCompressed,
                    .attr = transport::MakeAttr(0, 1),
                    .stream = call}),
       StatusCode::kInternal, "MESSAGE frame has COMPRESSED, a feature that was not announced"},
      {"COMPRESSED without a codec",
       EncodeRequest({.method = kEchoId, .flags = kEndStream | transport::kCompressed}),
       StatusCode::kInternal, "REQUEST frame has codec 0 with COMPRESSED"},
      {"a request with an attachment",
       EncodeRequest({.method = kEchoId, .flags = kEndStream | transport::kAttachment}),
       StatusCode::kInternal, "REQUEST frame has ATTACHMENT, a feature that was not announced"},
  };
}

// Frames that are wrong after what came before them.
std::vector<Case> MisplacedFrames() {
  const StreamId call = StreamId::Make(5, 0);
  return {
      {"second SETTINGS", test::EncodeSettingsFrame(), StatusCode::kInternal, "SETTINGS frame came twice"},
      {"a stream slot beyond the limit", EchoRequest(5000), StatusCode::kInternal,
       "stream slot is 5000, limit is 4095"},
      {"a CANCEL beyond the limit", EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(4096, 0)),
       StatusCode::kInternal, "stream slot is 4096, limit is 4095"},
      {"a request on a slot in use", EncodeRequest({.slot = 5, .method = kWaitId}) + EchoRequest(5, 1),
       StatusCode::kInternal, "REQUEST frame is on slot 5, which is in use"},
      {"a CANCEL on a slot never used", EncodeHeadFrame(FrameType::kCancel, "", call), StatusCode::kInternal,
       "CANCEL frame is on slot 5, which was never used"},
      {"a MESSAGE on a slot never used",
       EncodeFrame({.type = FrameType::kMessage, .flags = kEndStream, .stream = call}), StatusCode::kInternal,
       "MESSAGE frame is on slot 5, which was never used"},
      {"a MESSAGE after the whole request",
       EncodeRequest({.slot = 5, .method = kWaitId}) +
           EncodeFrame({.type = FrameType::kMessage, .flags = kEndStream, .stream = call}, "", "x"),
       StatusCode::kInternal, "MESSAGE frame is on slot 5, whose request is whole"},
      {"a request after DRAIN", Drain(0) + EchoRequest(), StatusCode::kInternal,
       "REQUEST frame came after DRAIN"},
      {"a DRAIN that counts wrongly", EchoRequest() + Drain(3), StatusCode::kInternal,
       "DRAIN frame says that 3 requests were sent, but 1 have come"},
      {"a second DRAIN", Drain(0) + Drain(0), StatusCode::kInternal, "DRAIN frame came twice"},
      {"a DRAIN whose head does not parse", EncodeHeadFrame(FrameType::kDrain, "\x08"), StatusCode::kInternal,
       "drain head of 1 bytes does not parse"},
      {"EOF inside a frame", EchoRequest().substr(0, 20), StatusCode::kInternal,
       "connection ended inside a frame, after 20 of 31 bytes", true},
      {"EOF inside a header", EchoRequest().substr(0, 7), StatusCode::kInternal,
       "connection ended inside a frame, after 7 of 12 bytes of its header", true},
  };
}

std::vector<Case> ConnectionErrors() {
  std::vector<Case> cases = MalformedFrames();
  std::vector<Case> more = MisplacedFrames();
  std::move(more.begin(), more.end(), std::back_inserter(cases));
  return cases;
}

TEST_P(BadInputTest, EndsTheConnectionAndSaysWhy) {
  for (const Case& c : ConnectionErrors()) {
    SCOPED_TRACE(c.name);
    SessionServer server(Options());
    const std::unique_ptr<RawPeer> bystander = server.ConnectAndGreet();
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(c.input);
    if (c.end) peer->FinishWriting();
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_FALSE(frames.empty());
    EXPECT_EQ(frames.back().header.stream, kConnectionStream);
    EXPECT_EQ(frames.back().header.flags, kEndStream);
    const WireStatus told = frames.back().status();
    EXPECT_EQ(told.status.code(), c.code);
    EXPECT_THAT(std::string(told.status.message()), HasSubstr(c.text));
    EXPECT_TRUE(peer->ended());

    peer->Close();
    server.Settle();
    EXPECT_EQ(server.open_sessions(), 1u) << "the connection is not closed";
    ExpectEchoes(*bystander, 1, 0);
  }
}

TEST_P(BadInputTest, HandlesNothingAfterTheErrorThatEndsTheConnection) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeHeader({.type = static_cast<FrameType>(77)}) + EchoRequest());
  EXPECT_EQ(peer->TakeFrames().size(), 1u);
  EXPECT_EQ(server.service().started, 0);
}

TEST_P(BadInputTest, ClosesAfterASecondWhenThePeerDoesNot) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeHeader({.type = static_cast<FrameType>(77)}));
  server.Settle();
  EXPECT_EQ(server.open_sessions(), 1u);
  server.Advance(absl::Seconds(1));
  EXPECT_EQ(server.open_sessions(), 0u);
}

// ---------------------------------------------------------------- First frames

TEST_P(BadInputTest, WantsSettingsFirst) {
  wire::Settings small;
  small.set_max_frame(1000);
  const Case kCases[] = {
      {"a request first", Preface() + EchoRequest(), StatusCode::kInternal,
       "first frame is REQUEST, it must be SETTINGS"},
      {"a setting out of bounds",
       Preface() + EncodeHeadFrame(FrameType::kSettings, small.SerializeAsString()), StatusCode::kInternal,
       "peer's setting max_frame is 1000, it must be 81932 to 16777215"},
      {"settings that do not parse", Preface() + EncodeHeadFrame(FrameType::kSettings, "\x08"),
       StatusCode::kInternal, "settings head of 1 bytes does not parse"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    SessionServer server(Options());
    const std::unique_ptr<RawPeer> peer = server.Connect();
    peer->Send(c.input);
    EXPECT_TRUE(peer->TakePreface());
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(frames[0].header.type, FrameType::kSettings);
    EXPECT_EQ(frames[1].header.stream, kConnectionStream);
    EXPECT_EQ(frames[1].status().status.code(), c.code);
    EXPECT_THAT(std::string(frames[1].status().status.message()), HasSubstr(c.text));
    EXPECT_TRUE(peer->ended());
    EXPECT_EQ(server.service().started, 0);
  }
}

// ---------------------------------------------------------------- Peers of another kind

TEST_P(BadInputTest, TellsPeersOfAnotherKindNothing) {
  const std::string kInputs[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                 std::string("\x16\x03\x01\x02\x00\x01", 6), "SSH-2.0-OpenSSH_9.2\r\n",
                                 std::string("\xf5"
                                             "FRX",
                                             4)};
  for (const std::string& input : kInputs) {
    SCOPED_TRACE(input);
    SessionServer server(Options());
    const std::unique_ptr<RawPeer> bystander = server.ConnectAndGreet();
    const std::unique_ptr<RawPeer> peer = server.Connect();
    peer->Send(input);
    EXPECT_TRUE(peer->ended());
    EXPECT_EQ(peer->TakeBytes(), "");
    peer->Close();
    server.Settle();
    EXPECT_EQ(server.open_sessions(), 1u);
    ExpectEchoes(*bystander, 1, 0);
  }
}

TEST_P(BadInputTest, SendsNothingBeforeTheWholePreface) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.Connect();
  peer->Send(Preface().substr(0, 7));
  EXPECT_EQ(peer->TakeBytes(), "");
  peer->Send(Preface().substr(7));
  EXPECT_TRUE(peer->TakePreface());
}

TEST_P(BadInputTest, SaysItsOwnVersionToAnother) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.Connect();
  std::string other = Preface();
  other[4] = 2;
  peer->Send(other);
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->TakeBytes(), Preface());
}

TEST_P(BadInputTest, ClosesWhenInputEndsInsideThePreface) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.Connect();
  peer->Send(Preface().substr(0, 3));
  peer->FinishWriting();
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->TakeBytes(), "");
  EXPECT_EQ(server.open_sessions(), 0u);
}

// ---------------------------------------------------------------- Slow peers

TEST_P(BadInputTest, EndsAConnectionWhoseFrameComesAByteASecond) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> bystander = server.ConnectAndGreet();
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const std::string request = EncodeRequest({.method = kEchoId, .message = std::string(1000, 'x')});
  for (size_t i = 0; i < 30; ++i) {
    ASSERT_FALSE(peer->ended()) << "after " << i << " seconds";
    peer->Send(request.substr(i, 1));
    server.Advance(absl::Seconds(1));
  }
  const std::optional<ReceivedFrame> told = peer->TakeFrame();
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->header.stream, kConnectionStream);
  EXPECT_EQ(told->status().status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(told->status().status.message(), "frame is not whole after 30s, 30 of 1024 bytes are there");
  EXPECT_TRUE(peer->ended());
  ExpectEchoes(*bystander, 1, 0);
}

TEST_P(BadInputTest, EndsAConnectionWhosePrefaceComesAByteInTwoSeconds) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.Connect();
  for (size_t i = 0; i < 5; ++i) {
    ASSERT_FALSE(peer->ended());
    peer->Send(Preface().substr(i, 1));
    server.Advance(absl::Seconds(2));
  }
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->TakeBytes(), "");
}

TEST_P(BadInputTest, KeepsAConnectionWithoutTrafficForEver) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  server.Advance(absl::Hours(24));
  ExpectEchoes(*peer, 1, 0);
}

// ---------------------------------------------------------------- Memory

TEST_P(BadInputTest, HoldsNoMoreThanThePeerHasSentOfAFrame) {
  SessionServer server(Options());
  std::vector<std::unique_ptr<RawPeer>> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(server.ConnectAndGreet());
    peers.back()->Send(EncodeHeader(
        {.length = 262'144, .type = FrameType::kRequest, .flags = kEndStream, .stream = StreamId(1)}));
  }
  EXPECT_LE(server.loop().blocks().pool().stats().used_bytes, 50 * transport::BufferPool::kMinBlock);
}

}  // namespace
}  // namespace ferry
