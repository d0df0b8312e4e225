// How a client's session runs its calls, with servers that keep to the protocol and with others.
#include "ferry/rpc/client_session.h"

#include <cstdint>
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
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/error_number.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/capture.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::FaultyStream;
using test::Preface;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using transport::EventLoop;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;
using Started = ClientSession::Started;

std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

std::string Response(StreamId stream, const std::string& message, const std::string& head = "",
                     uint8_t flags = kEndStream) {
  return EncodeFrame({.type = FrameType::kResponse, .flags = flags, .stream = stream}, head, message);
}
std::string Fragment(StreamId stream, const std::string& message, uint8_t flags) {
  return EncodeFrame({.type = FrameType::kMessage, .flags = flags, .stream = stream}, "", message);
}
std::string Status(StreamId stream, const WireStatus& status) {
  return EncodeHeadFrame(FrameType::kStatus, EncodeStatusHead(status, 16384), stream, kEndStream);
}
std::string LengthHead(uint64_t length) { return *EncodeResponseHead({}, {}, length, 16384); }

std::string LengthOf(uint64_t length) { return *EncodeRequestHead({}, length, 65'535); }

constexpr StreamId kFirst = StreamId::Make(1, 0);

class ClientSessionTest : public testing::TestWithParam<size_t>, protected ClientSession::Owner {
 protected:
  ClientSessionTest() {
    absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }
  ~ClientSessionTest() override {
    if (session_ != nullptr) InLoop([&] { session_->Close(absl::CancelledError("the test ends")); });
    loop_->RunUntilIdle();
  }

  // A session, and the server's end of its connection.
  RawPeer& Connect(const ClientSession::Options& options = {}) {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    auto stream = std::make_unique<FaultyStream>(
        std::move(pair.first), FaultyStream::Faults{.max_read = GetParam(), .max_write = GetParam()});
    stream_ = stream.get();
    session_ = std::make_shared<ClientSession>(options, *loop_, static_cast<ClientSession::Owner&>(*this),
                                               std::move(stream));
    InLoop([&] { session_->Begin(); });
    peer_ = std::make_unique<RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    return *peer_;
  }

  // The same, with prefaces and SETTINGS exchanged.
  RawPeer& ConnectAndGreet(const WireSettings& server = {}, const ClientSession::Options& options = {}) {
    RawPeer& peer = Connect(options);
    peer.Send(Preface() + test::EncodeSettingsFrame(server));
    EXPECT_TRUE(peer.TakePreface());
    const std::optional<ReceivedFrame> settings = peer.TakeFrame();
    EXPECT_TRUE(settings.has_value() && settings->header.type == FrameType::kSettings);
    return peer;
  }

  Started Start(TestCall& call) { return session_->Start(call, call.request, call.request.ByteSizeLong()); }

  // A call that outlives the session.
  TestCall& NewCall(const std::string& text = "hello",
                    transport::Instant until = transport::Instant::Infinite()) {
    return calls_.emplace_back(text, until);
  }

  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  transport::Instant In(absl::Duration time) { return clock_.Now() + time; }

  void OnIntroduced(ClientSession&) override { introduced_ = true; }
  void OnNoMoreCalls(ClientSession&, const absl::Status& why) override {
    EXPECT_FALSE(ended_.has_value()) << "the end was told twice";
    ended_ = why;
  }
  void OnSessionClosed(ClientSession&) override {
    EXPECT_TRUE(ended_.has_value()) << "closed before it ended";
    loop_->Post([session = std::move(session_)] {});
  }
  void OnSlotFree() override { ++slots_freed_; }
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    EXPECT_TRUE(ended_.has_value() || absl::IsResourceExhausted(why)) << why;
    for (ClientCall* call : calls) {
      returned_.push_back(call);
      call->End(why);
    }
  }

  std::deque<TestCall> calls_;
  transport::ManualClock clock_;
  std::unique_ptr<EventLoop> loop_;
  // The session's end of the connection.
  FaultyStream* stream_ = nullptr;
  // Null once it is closed.
  std::shared_ptr<ClientSession> session_;
  std::unique_ptr<RawPeer> peer_;
  std::optional<absl::Status> ended_;
  int slots_freed_ = 0;
  bool introduced_ = false;
  // The calls that the session has given back.
  std::vector<ClientCall*> returned_;
};

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
    RawPeer& peer = c.greeted ? ConnectAndGreet() : Connect();
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

// ---------------------------------------------------------------- Deadlines

TEST_P(ClientSessionTest, CancelsOnceAtTheDeadlineAndUsesTheSlotAgainWhenTheServerHasEndedTheCall) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  const std::optional<ReceivedFrame> request = peer.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 20'000u);
  Advance(absl::Milliseconds(19));
  EXPECT_FALSE(call.ended);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(call.status, absl::DeadlineExceededError(
                             "no answer from in-process before the deadline of ferry.test.Echo/Echo"));
  Advance(absl::Hours(1));
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kCancel);
  EXPECT_EQ(frames[0].header.stream, kFirst);

  TestCall& second = NewCall();
  Start(second);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(2, 0));
  peer.Send(Response(kFirst, EncodedText("late")));
  EXPECT_EQ(call.reply.text(), "");
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(1, 1));
  // A late frame of the earlier generation is nobody's.
  peer.Send(Response(kFirst, EncodedText("later still")));
  EXPECT_FALSE(third.ended);
  peer.Send(Response(StreamId::Make(1, 1), EncodedText("third")));
  EXPECT_EQ(third.reply.text(), "third");
}

TEST_P(ClientSessionTest, IgnoresFragmentsOfACallThatHasEndedUpToTheLast) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  peer.Send(Response(kFirst, "abc", LengthHead(9), kMore));
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(call.reply_fragments.active());
  peer.Send(Fragment(kFirst, "def", kMore));
  peer.TakeFrames();
  TestCall& second = NewCall();
  Start(second);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(2, 0));
  peer.Send(Fragment(kFirst, "ghi", kEndStream));
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(1, 1));
}

TEST_P(ClientSessionTest, EndsCallsInTheOrderOfTheirDeadlines) {
  ConnectAndGreet();
  TestCall& late = NewCall("a", In(absl::Milliseconds(30)));
  TestCall& soon = NewCall("b", In(absl::Milliseconds(10)));
  TestCall& never = NewCall("c");
  Start(late);
  Start(never);
  Start(soon);
  Advance(absl::Milliseconds(10));
  EXPECT_TRUE(soon.ended);
  EXPECT_FALSE(late.ended);
  Advance(absl::Milliseconds(20));
  EXPECT_TRUE(late.ended);
  Advance(absl::Hours(100));
  EXPECT_FALSE(never.ended);
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

// ---------------------------------------------------------------- Slots, and DRAIN

TEST_P(ClientSessionTest, IsFullAtMaxStreamsAndTellsWhenASlotIsFree) {
  RawPeer& peer = ConnectAndGreet({.max_streams = 3});
  TestCall& third = NewCall();
  EXPECT_EQ(Start(NewCall()), Started::kYes);
  EXPECT_EQ(Start(NewCall()), Started::kYes);
  EXPECT_EQ(Start(third), Started::kFull);
  EXPECT_EQ(slots_freed_, 0);
  peer.Send(Response(kFirst, ""));
  EXPECT_EQ(slots_freed_, 1);
  EXPECT_EQ(Start(third), Started::kYes);
  EXPECT_EQ(third.stream, StreamId::Make(1, 1));
}

TEST_P(ClientSessionTest, FinishesItsCallsAfterDrainAndTakesNoMore) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& accepted = NewCall();
  TestCall& beyond = NewCall();
  Start(accepted);
  Start(beyond);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  EXPECT_EQ(ended_, absl::UnavailableError("the server takes no more calls"));
  TestCall& later = NewCall();
  EXPECT_EQ(Start(later), Started::kClosed);
  EXPECT_FALSE(accepted.ended);
  peer.Send(Response(kFirst, EncodedText("answered")));
  EXPECT_EQ(accepted.reply.text(), "answered");
  peer.FinishWriting();
  EXPECT_THAT(returned_, ElementsAre(&beyond));
  EXPECT_EQ(beyond.status,
            absl::UnavailableError("the server takes no more calls, this one was not executed"));
  EXPECT_EQ(session_, nullptr);
}

TEST_P(ClientSessionTest, GivesBackCallsBeyondDrainInTheirOrder) {
  RawPeer& peer = ConnectAndGreet();
  // The first slot is used last.
  Start(NewCall());
  TestCall& second = NewCall();
  Start(second);
  peer.Send(Response(kFirst, ""));
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(third.stream.slot(), 1u);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  EXPECT_THAT(returned_, ElementsAre(&second, &third));
}

TEST_P(ClientSessionTest, GivesBackIdempotentCallsOfAServerThatSaidNothing) {
  RawPeer& peer = Connect();
  TestCall& once = NewCall();
  TestCall& idempotent = NewCall();
  idempotent.method = &test::kIdempotentEchoMethod;
  Start(once);
  Start(idempotent);
  peer.FinishWriting();
  EXPECT_FALSE(introduced_);
  EXPECT_THAT(returned_, ElementsAre(&idempotent));
  EXPECT_EQ(once.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, EndsIdempotentCallsOfAServerThatIntroducedItself) {
  RawPeer& peer = ConnectAndGreet();
  EXPECT_TRUE(introduced_);
  TestCall& call = NewCall();
  call.method = &test::kIdempotentEchoMethod;
  Start(call);
  peer.FinishWriting();
  EXPECT_THAT(returned_, IsEmpty());
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, GivesBackCallsThatWereNeverWritten) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& written = NewCall();
  Start(written);
  peer.TakeFrames();
  InLoop([&] { stream_->SetFaults({.stall_writes = true}); });
  TestCall& unwritten = NewCall();
  TestCall& large = NewCall(std::string(300'000, 'x'));
  large.head = LengthOf(300'004);
  Start(unwritten);
  Start(large);
  peer.FinishWriting();
  EXPECT_EQ(peer.TakeBytes(), "");
  EXPECT_THAT(returned_, ElementsAre(&unwritten, &large));
  EXPECT_THAT(std::string(unwritten.status.message()), HasSubstr("the call was not sent"));
  EXPECT_EQ(written.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, EndsItsCallsWhenItCloses) {
  ConnectAndGreet();
  TestCall& call = NewCall();
  InLoop([&] {
    Start(call);
    session_->Close(absl::CancelledError("closed"));
  });
  EXPECT_THAT(returned_, IsEmpty());
  EXPECT_EQ(call.status, absl::CancelledError("closed"));
}

TEST_P(ClientSessionTest, GivesBackACallThatTheServerHadNoSlotFor) {
  RawPeer& peer = Connect();
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  Start(first);
  Start(second);
  peer.Send(Preface() + test::EncodeSettingsFrame({.max_streams = 2}));
  const WireStatus refusal{.status = absl::ResourceExhaustedError("stream slot is 2, limit is 1"),
                           .not_executed = true};
  peer.Send(Status(StreamId::Make(2, 0), refusal));
  EXPECT_THAT(returned_, ElementsAre(&second));
  // Any other refusal is an answer.
  peer.Send(Status(kFirst, refusal));
  EXPECT_THAT(returned_, SizeIs(1));
  EXPECT_EQ(first.status, refusal.status);
}

TEST_P(ClientSessionTest, KeepsDeadlinesAfterDrain) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace ferry
