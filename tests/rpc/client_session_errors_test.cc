// What a client's session makes of servers that break the protocol, or end the connection.
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/client_session_fixture.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::Preface;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::HasSubstr;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, ClientSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

// Windows count.
constexpr uint64_t kFeatures = kFlowControlFeature | kStreamingFeature;

std::string Window(uint32_t increment, StreamId stream) {
  wire::WindowHead head;
  head.set_increment(increment);
  return EncodeHeadFrame(FrameType::kWindow, head.SerializeAsString(), stream);
}

// ---------------------------------------------------------------- Servers that end the connection

struct Case {
  const char* name;
  std::string input;
  // The reason, as calls and owner are told.
  const char* text;
  // Whether the server is told too.
  bool told = true;
  bool greeted = true;
};

std::vector<Case> ConnectionErrors() {
  wire::DrainHead drain;
  drain.set_last_ordinal(2);
  const std::string drain_2 = EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString());
  drain.set_last_ordinal(1);
  const std::string drain_1 = EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString());
  const StreamId never = StreamId::Make(9, 0);
  std::string other_version = Preface();
  other_version[4] = 2;
  return {
      {"an answer in HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n",
       "peer speaks HTTP, not Ferry: its first bytes are \"H", false, false},
      {"a TLS alert", std::string("\x15\x03\x01\x00\x02\x02", 6), "peer speaks TLS, not plain Ferry", false,
       false},
      {"another major version", other_version, "peer speaks major version 2 of Ferry, this is version 1",
       false, false},
      {"another first frame", Preface() + EncodeFrame({.type = FrameType::kPing}, "", "12345678"),
       "first frame is PING, it must be SETTINGS", true, false},
      {"second SETTINGS", test::EncodeSettingsFrame(), "SETTINGS frame came twice"},
      {"an unknown frame type", EncodeFrame({.type = static_cast<FrameType>(77)}), "frame type is 77"},
      {"a REQUEST from a server", test::EncodeRequest({}),
       "REQUEST frame is from a server, only clients send it"},
      {"a RESPONSE on a slot never used", Response(never, ""),
       "RESPONSE frame is on slot 9, which was never used"},
      {"a STATUS on a slot never used", Status(never, {}), "STATUS frame is on slot 9, which was never used"},
      {"a MESSAGE on a slot never used", Fragment(never, "x", kMore),
       "MESSAGE frame is on slot 9, which was never used"},
      {"a WINDOW of 0", Window(0, {}), "WINDOW frame has an increment of 0"},
      {"a WINDOW of 0 for a call", Window(0, kFirst), "WINDOW frame has an increment of 0"},
      {"a WINDOW past the maximum", Window(2'147'483'647, {}), "limit is 2147483647"},
      {"a WINDOW on a slot never used", Window(1, never), "WINDOW frame is on slot 9, which was never used"},
      {"a DRAIN of more than was sent", drain_2, "DRAIN frame accepts 2 requests, but only 1 were sent"},
      {"a second DRAIN", drain_1 + drain_1, "DRAIN frame came twice"},
      {"a STATUS that ends the connection", Status({}, {.status = absl::InternalError("you are wrong")}),
       "the server ended the connection: INTERNAL: you are wrong", false},
  };
}

TEST_P(ClientSessionTest, EndsItsCallsWithTheReasonWhenTheConnectionEnds) {
  for (const Case& c : ConnectionErrors()) {
    SCOPED_TRACE(c.name);
    ended_.reset();
    RawPeer& peer = c.greeted
                        ? ConnectAndGreet({.features = kFeatures}, {.settings = {.features = kFeatures}})
                        : Connect();
    TestCall& call = NewCall();
    Start(call);
    peer.TakeBytes();
    peer.Send(c.input);
    EXPECT_TRUE(call.ended);
    EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(call.status.message()), HasSubstr(c.text));
    EXPECT_THAT(std::string(call.status.message()), HasSubstr("connection to in-process lost: "));
    ASSERT_TRUE(ended_.has_value());
    const std::vector<ReceivedFrame> frames = peer.TakeFrames();
    if (c.told) {
      ASSERT_THAT(frames, SizeIs(1));
      EXPECT_EQ(frames[0].header.stream, transport::kConnectionStream);
      EXPECT_THAT(std::string(frames[0].status().status.message()), HasSubstr(c.text));
    } else {
      EXPECT_THAT(frames, SizeIs(0));
    }
    EXPECT_TRUE(peer.ended());
    Advance(absl::Seconds(1));
    EXPECT_EQ(session_, nullptr) << "the connection is not closed";
  }
}

TEST_P(ClientSessionTest, EndsItsCallsWhenTheServerCloses) {
  RawPeer& peer = ConnectAndGreet();
  TestCall calls[3];
  for (TestCall& call : calls) Start(call);
  peer.FinishWriting();
  for (const TestCall& call : calls) {
    EXPECT_EQ(call.status,
              absl::UnavailableError("connection to in-process lost: the server closed the connection; the "
                                     "call may have been executed"));
  }
  EXPECT_EQ(session_, nullptr);
}

TEST_P(ClientSessionTest, EndsItsCallsWhenTheServerClosesInsideAFrame) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  Start(call);
  peer.Send(Response(kFirst, EncodedText("hello")).substr(0, 15));
  peer.FinishWriting();
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(call.status.message()),
              HasSubstr("connection ended inside a frame, after 15 of 19 bytes"));
}

TEST_P(ClientSessionTest, EndsAConnectionThatSendsMoreControlFramesThanTheLimit) {
  const std::string frames[] = {
      EncodeFrame({.type = FrameType::kPing}, "", "12345678"),
      EncodeFrame({.type = FrameType::kPing, .flags = transport::kAck}, "", "12345678"),
      EncodeHeadFrame(FrameType::kWindow, std::string("\x08\x01")),
  };
  for (const std::string& frame : frames) {
    ended_ = std::nullopt;
    RawPeer& peer = ConnectAndGreet({}, {.max_control_frames_per_second = 10});
    for (int second = 0; second < 3; ++second) {
      for (int i = 0; i < 10; ++i) peer.Send(frame);
      Advance(absl::Seconds(1));
    }
    EXPECT_FALSE(ended_.has_value());
    for (int i = 0; i < 11; ++i) peer.Send(frame);
    ASSERT_TRUE(ended_.has_value());
    EXPECT_EQ(ended_->code(), StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(ended_->message()), HasSubstr("11 control frames within a second, limit is 10"));
    peer.Close();
    Advance(absl::Seconds(10));
  }
}

// ---------------------------------------------------------------- Servers that end one call badly

struct CallCase {
  const char* name;
  std::string input;
  StatusCode code;
  const char* text;
  // The server has not ended the call: it is told to stop.
  bool cancelled = false;
};

std::vector<CallCase> CallErrors() {
  wire::ResponseHead bad_key;
  bad_key.add_trailing_metadata()->set_key("A");
  return {
      {"a reply that does not parse", Response(kFirst, std::string(17, '\xff')), StatusCode::kInternal,
       "response of 17 bytes does not parse"},
      {"a head that does not parse", Response(kFirst, "", std::string(17, '\xff')), StatusCode::kInternal,
       "response head of 17 bytes does not parse"},
      {"a bad key", Response(kFirst, "", bad_key.SerializeAsString()), StatusCode::kInternal,
       "metadata key \"A\" has a character outside a-z 0-9 - _ ."},
      {"a STATUS that does not parse",
       EncodeHeadFrame(FrameType::kStatus, std::string(17, '\xff'), kFirst, kEndStream),
       StatusCode::kInternal, "status head of 17 bytes does not parse"},
      {"fragments that do not parse",
       Response(kFirst, std::string(9, '\xff'), LengthHead(17), kMore) +
           Fragment(kFirst, std::string(8, '\xff'), kEndStream),
       StatusCode::kInternal, "response of 17 bytes does not parse"},
      {"fragments that are too much", Response(kFirst, "abc", LengthHead(2), kMore), StatusCode::kInternal,
       "fragments have 3 bytes, message_length is 2", true},
      {"fragments that are too little",
       Response(kFirst, "abc", LengthHead(20), kMore) + Fragment(kFirst, "d", kEndStream),
       StatusCode::kInternal, "fragments have 4 bytes, message_length is 20"},
      {"fragments without a head", Response(kFirst, "abc", "", kMore), StatusCode::kInternal,
       "fragments have 3 bytes, message_length is 0", true},
      {"a MESSAGE before RESPONSE", Fragment(kFirst, "abc", kMore), StatusCode::kInternal,
       "MESSAGE frame came before RESPONSE", true},
      {"two RESPONSEs, the second in fragments",
       Response(kFirst, "abc", LengthHead(20), kMore) + Response(kFirst, "abc", LengthHead(20), kMore),
       StatusCode::kInternal, "RESPONSE frame came twice", true},
      {"two RESPONSEs, the second whole",
       Response(kFirst, "abc", LengthHead(20), kMore) + Response(kFirst, ""), StatusCode::kInternal,
       "RESPONSE frame came twice"},
      {"a reply over the limit", Response(kFirst, "abc", LengthHead(70'000), kMore),
       StatusCode::kResourceExhausted, "message is 70000 bytes, limit is 65536", true},
      {"a reply over the limit, in one frame", Response(kFirst, std::string(70'000, 'x')),
       StatusCode::kResourceExhausted, "message is 70000 bytes, limit is 65536"},
  };
}

TEST_P(ClientSessionTest, EndsTheCallAndGoesOn) {
  for (const CallCase& c : CallErrors()) {
    SCOPED_TRACE(c.name);
    ended_.reset();
    RawPeer& peer = ConnectAndGreet({}, {.settings = {.max_message = 65'536}});
    TestCall& call = NewCall();
    TestCall& other = NewCall();
    Start(call);
    Start(other);
    EXPECT_THAT(peer.TakeFrames(), SizeIs(2));
    peer.Send(c.input);
    EXPECT_EQ(call.status, absl::Status(c.code, c.text));
    EXPECT_FALSE(call.reply_fragments.active());
    const std::vector<ReceivedFrame> frames = peer.TakeFrames();
    ASSERT_THAT(frames, SizeIs(c.cancelled ? 1 : 0));
    if (c.cancelled) {
      EXPECT_EQ(frames[0].header.type, FrameType::kCancel);
      EXPECT_EQ(frames[0].header.stream, kFirst);
    }
    peer.Send(Response(StreamId::Make(2, 0), EncodedText("still here")));
    EXPECT_EQ(other.reply.text(), "still here");
    InLoop([&] { session_->Close(absl::CancelledError("the next case")); });
  }
}

TEST_P(ClientSessionTest, ChecksMetadataThatNobodyWants) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall();
  call.reply_metadata = nullptr;
  Start(call);
  wire::ResponseHead head;
  head.add_initial_metadata()->set_key("");
  peer.Send(Response(kFirst, "", head.SerializeAsString()));
  EXPECT_EQ(call.status.code(), StatusCode::kInternal);
}

TEST_P(ClientSessionTest, BoundsTheRepliesInFragmentsThatItHolds) {
  RawPeer& peer = ConnectAndGreet({}, {.max_fragment_bytes = 150'000});
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  Start(first);
  Start(second);
  peer.Send(Response(kFirst, "x", LengthHead(100'000), kMore));
  peer.Send(Response(StreamId::Make(2, 0), "x", LengthHead(100'000), kMore));
  EXPECT_FALSE(first.ended);
  EXPECT_EQ(second.status,
            absl::ResourceExhaustedError("message is 100000 bytes, but 100000 of 150000 bytes for "
                                         "messages are in use"));
}

}  // namespace
}  // namespace ferry
