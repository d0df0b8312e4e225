// What a server makes of calls that break the protocol: PROTOCOL.md section 14, line by line.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
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
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, BadInputTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

std::string RequestHead(uint64_t message_length, const Metadata& metadata = {}) {
  wire::RequestHead head;
  head.set_message_length(message_length);
  for (const auto& [key, value] : metadata.entries()) {
    wire::MetadataEntry& entry = *head.add_metadata();
    entry.set_key(key);
    entry.set_value(value);
  }
  return head.SerializeAsString();
}

// ---------------------------------------------------------------- What ends one call

struct CallCase {
  const char* name;
  std::string input;
  StatusCode code;
  const char* text;
  // Of the call that ends, and of the next one on its slot.
  uint32_t slot = 1;
};

// Of the first call on slot 1.
std::string Fragment(const std::string& bytes, uint8_t flags) {
  return EncodeFrame({.type = FrameType::kMessage, .flags = flags, .stream = StreamId::Make(1, 0)}, "",
                     bytes);
}

std::vector<CallCase> CallErrors() {
  return {
      {"a head that does not parse",
       EncodeRequest({.method = kEchoId, .head = std::string(17, '\xff'), .message = EncodedText("x")}),
       StatusCode::kInternal, "request head of 17 bytes does not parse"},
      {"a request that does not parse",
       EncodeRequest({.method = kEchoId, .message = std::string(17, '\xff')}), StatusCode::kInternal,
       "request of 17 bytes does not parse"},
      {"a request in fragments that does not parse",
       EncodeRequest(
           {.method = kEchoId, .flags = kMore, .head = RequestHead(17), .message = std::string(9, '\xff')}) +
           Fragment(std::string(8, '\xff'), kEndStream),
       StatusCode::kInternal, "request of 17 bytes does not parse"},
      {"an unknown method", EncodeRequest({.method = 0x0123456789abcdef}), StatusCode::kUnimplemented,
       "no method has id 0x0123456789abcdef"},
      {"a bad key", EncodeRequest({.method = kEchoId, .head = RequestHead(0, {{"A", "b"}})}),
       StatusCode::kInvalidArgument, "metadata key \"A\" has a character outside a-z 0-9 - _ ."},
      {"an attempt over the limit", EncodeRequest({.method = kEchoId, .head = std::string("\x38\xe9\x07")}),
       StatusCode::kInternal, "attempt is 1001, limit is 1000"},
      {"a message over the limit, in one frame",
       EncodeRequest({.method = kEchoId, .message = std::string(70'000, 'x')}),
       StatusCode::kResourceExhausted, "message is 70000 bytes, limit is 65536"},
      {"a message over the limit, in fragments",
       EncodeRequest({.method = kEchoId, .flags = kMore, .head = RequestHead(70'000'000), .message = "x"}) +
           Fragment("y", kMore) + Fragment("z", kEndStream),
       StatusCode::kResourceExhausted, "message is 70000000 bytes, limit is 65536"},
      {"a message of all the bytes there are",
       EncodeRequest({.method = kEchoId, .flags = kMore, .head = RequestHead(~uint64_t{0}), .message = "x"}),
       StatusCode::kResourceExhausted, "message is 18446744073709551615 bytes, limit is 65536"},
      {"fragments that are too much",
       EncodeRequest(
           {.method = kEchoId, .flags = kMore, .head = RequestHead(20), .message = std::string(10, 'x')}) +
           Fragment(std::string(20, 'x'), kEndStream),
       StatusCode::kInternal, "fragments have 30 bytes, message_length is 20"},
      {"fragments that are too little",
       EncodeRequest(
           {.method = kEchoId, .flags = kMore, .head = RequestHead(20), .message = std::string(10, 'x')}) +
           Fragment("y", kEndStream),
       StatusCode::kInternal, "fragments have 11 bytes, message_length is 20"},
      {"a first fragment that is too much",
       EncodeRequest(
           {.method = kEchoId, .flags = kMore, .head = RequestHead(5), .message = std::string(10, 'x')}),
       StatusCode::kInternal, "fragments have 10 bytes, message_length is 5"},
      {"fragments without a head",
       EncodeRequest({.method = kEchoId, .flags = kMore, .message = EncodedText("half")}),
       StatusCode::kInternal, "fragments have 6 bytes, message_length is 0"},
      {"fragments whose head has no length",
       EncodeRequest({.method = kEchoId,
                      .flags = kMore,
                      .head = RequestHead(0, {{"a", "b"}}),
                      .message = EncodedText("half")}),
       StatusCode::kInternal, "fragments have 6 bytes, message_length is 0"},
      {"a stream of requests", EncodeRequest({.method = kEchoId, .flags = 0}), StatusCode::kUnimplemented,
       "method ferry.test.Echo/Echo takes one request, not a stream"},
      {"a slot beyond the announced limit", EncodeRequest({.slot = 300, .method = kEchoId}),
       StatusCode::kResourceExhausted, "stream slot is 300, limit is 99", 300},
  };
}

TEST_P(BadInputTest, EndsTheCallAndGoesOn) {
  for (const CallCase& c : CallErrors()) {
    SCOPED_TRACE(c.name);
    SessionServer::Options options = Options();
    options.settings.max_message = 65'536;
    options.settings.max_streams = 100;
    SessionServer server(options);
    const std::unique_ptr<RawPeer> bystander = server.ConnectAndGreet();
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(c.input);
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(frames[0].header.stream, StreamId::Make(c.slot, 0));
    const WireStatus told = frames[0].status();
    EXPECT_EQ(told.status.code(), c.code);
    EXPECT_EQ(told.status.message(), c.text);
    EXPECT_TRUE(told.not_executed);
    EXPECT_EQ(server.service().started, 0);
    EXPECT_EQ(server.shared().request_budget.used(), 0u);

    ExpectEchoes(*peer, c.slot < 100 ? c.slot : 1, c.slot < 100 ? 1 : 0);
    ExpectEchoes(*bystander, 1, 0);
    EXPECT_FALSE(peer->ended());
  }
}

// ---------------------------------------------------------------- What ends nothing

TEST_P(BadInputTest, GoesOnAsIfItHadNotCome) {
  const StreamId late = StreamId::Make(1, 0);
  const struct {
    const char* name;
    std::string input;
  } kCases[] = {
      {.name = "an ignorable type, whatever else it says",
       .input = EncodeFrame(
           {.type = static_cast<FrameType>(200), .flags = 0xff, .attr = 0xff, .stream = StreamId(~0u)},
           "head", "message")},
      {.name = "a WINDOW of the connection", .input = EncodeHeadFrame(FrameType::kWindow, "\x08\x01")},
      {.name = "a WINDOW of a call that has ended",
       .input = EncodeHeadFrame(FrameType::kWindow, "\x08\x01", late)},
      {.name = "a PING that answers nothing",
       .input = EncodeFrame({.type = FrameType::kPing, .flags = transport::kAck}, "", "12345678")},
      {.name = "a CANCEL of a call that has ended", .input = EncodeHeadFrame(FrameType::kCancel, "", late)},
      {.name = "a CANCEL of another generation",
       .input = EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(1, 77))},
      {.name = "a MESSAGE of a call that has ended",
       .input = EncodeFrame({.type = FrameType::kMessage, .flags = kEndStream, .stream = late}, "", "x")},
      {.name = "a CANCEL beyond the announced limit",
       .input = EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(3000, 0))},
      {.name = "a MESSAGE beyond the announced limit",
       .input = EncodeFrame({.type = FrameType::kMessage, .flags = kMore, .stream = StreamId::Make(3000, 0)},
                            "", "x")},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    SessionServer::Options options = Options();
    options.settings.max_streams = 100;
    SessionServer server(options);
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    ExpectEchoes(*peer, 1, 0);
    peer->Send(c.input);
    EXPECT_THAT(peer->TakeFrames(), testing::SizeIs(0));
    ExpectEchoes(*peer, 1, 1);
  }
}

TEST_P(BadInputTest, TakesTimeoutsThatSayNothingForNone) {
  for (const uint32_t timeout_us : {0u, 0xffffffffu}) {
    SCOPED_TRACE(timeout_us);
    SessionServer server(Options());
    server.hold_executor = true;
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    absl::Duration left;
    server.service().on_echo = [&](auto call) {
      left = call.context().time_left();
      std::move(call).Finish(absl::OkStatus());
    };
    peer->Send(EncodeRequest({.method = kEchoId, .timeout_us = timeout_us}));
    server.Advance(absl::Hours(100));
    server.hold_executor = false;
    const std::optional<ReceivedFrame> reply = peer->TakeFrame();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->header.type, FrameType::kResponse);
    EXPECT_EQ(left, absl::InfiniteDuration());
  }
}

TEST_P(BadInputTest, CountsAnyOtherTimeout) {
  const struct {
    const char* name;
    uint32_t timeout_us;
    absl::Duration late;
    const char* text;
  } kCases[] = {
      {"1 microsecond", 1, absl::Microseconds(1), "deadline of 1us exceeded before the handler started"},
      {"20 milliseconds", 20'000, absl::Milliseconds(20),
       "deadline of 20ms exceeded before the handler started"},
      {"71 minutes", 0xfffffffe, absl::Microseconds(0xfffffffe),
       "deadline of 1h11m34.967294s exceeded before the handler started"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    SessionServer server(Options());
    server.hold_executor = true;
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(EncodeRequest({.method = kEchoId, .timeout_us = c.timeout_us, .message = EncodedText("x")}));
    server.Advance(c.late);
    server.hold_executor = false;
    const std::optional<ReceivedFrame> reply = peer->TakeFrame();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->status().status.code(), StatusCode::kDeadlineExceeded);
    EXPECT_EQ(reply->status().status.message(), c.text);
    EXPECT_TRUE(reply->status().not_executed);
    EXPECT_EQ(server.service().started, 0);
  }
}

// ---------------------------------------------------------------- Memory

TEST_P(BadInputTest, HoldsNoMoreFragmentsThanItsBudget) {
  SessionServer::Options options = Options();
  options.max_request_bytes_per_connection = 250'000;
  options.max_request_bytes = 350'000;
  SessionServer server(options);
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const auto begin = [&](uint32_t slot) {
    return EncodeRequest(
        {.slot = slot, .method = kEchoId, .flags = kMore, .head = RequestHead(100'000), .message = "x"});
  };
  peer->Send(begin(1) + begin(2) + begin(3));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].header.stream.slot(), 3u);
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(frames[0].status().status.message(),
            "message is 100000 bytes, but 200000 of 250000 bytes for messages are in use");
  EXPECT_TRUE(frames[0].status().not_executed);

  const std::unique_ptr<RawPeer> other = server.ConnectAndGreet();
  other->Send(begin(1) + begin(2));
  EXPECT_THAT(other->TakeFrames(), testing::SizeIs(1))
      << "the budget of all connections has room for one more";
  EXPECT_EQ(server.shared().request_budget.used(), 300'000u);
  peer->Close();
  other->Close();
  server.Settle();
  EXPECT_EQ(server.shared().request_budget.used(), 0u);
}

}  // namespace
}  // namespace ferry
