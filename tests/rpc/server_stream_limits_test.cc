// What a server does about streams that break the rules or its limits.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/server_stream_fixture.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/raw_peer.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::Encoded;
using test::EncodeRequest;
using test::kEchoId;
using test::kFeatures;
using test::kSlot;
using test::LengthHead;
using test::Message;
using test::RawPeer;
using test::ReceivedFrame;
using test::Repeated;
using test::ServerStreamFixture;
using test::Window;
using testing::SizeIs;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

using ServerStreamLimitsTest = ServerStreamFixture;

INSTANTIATE_TEST_SUITE_P(Slices, ServerStreamLimitsTest, testing::Values(SIZE_MAX, 1), test::NameOfSlice);

TEST_P(ServerStreamLimitsTest, EndsTheConnectionOverBadFrames) {
  const struct {
    const char* name;
    std::string bytes;
    StatusCode code;
    const char* text;
  } kCases[] = {
      // And more than the default, for the client may not have read yet that the window is smaller.
      {"more than the window", Repeated(Message(std::string(60'000, 'x')), 18),
       StatusCode::kResourceExhausted, "slot 5 has received more than its window of 100000 bytes"},
      {"a WINDOW of 0", Window(0, kSlot), StatusCode::kInternal, "WINDOW frame has an increment of 0"},
      {"a WINDOW of 0 on the connection", Window(0, 0), StatusCode::kInternal,
       "WINDOW frame has an increment of 0"},
      {"a WINDOW too large", Window(2'147'483'647, 0), StatusCode::kInternal,
       "WINDOW frame enlarges the window of slot 0 to 2164260863, limit is 2147483647"},
      {"a WINDOW on a slot never used", Window(1, 77), StatusCode::kInternal,
       "WINDOW frame is on slot 77, which was never used"},
      {"a message after the end", Message("", kEndStream) + Message(Encoded("x")), StatusCode::kInternal,
       "MESSAGE frame is on slot 5, whose stream has ended"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    std::unique_ptr<RawPeer> other = server_.ConnectAndGreet();
    std::unique_ptr<RawPeer> peer = Begin();
    peer->Send(c.bytes);
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_FALSE(frames.empty());
    EXPECT_EQ(frames.back().header.stream, transport::kConnectionStream);
    EXPECT_EQ(frames.back().status().status.code(), c.code);
    EXPECT_EQ(std::string(frames.back().status().status.message()), c.text);
    EXPECT_TRUE(peer->ended());
    peer->Close();
    server_.Settle();
    EXPECT_TRUE(chats()[0].context().cancelled());
    chats().clear();
    other->Send(EncodeRequest({.method = kEchoId, .message = Encoded("x")}));
    EXPECT_THAT(other->TakeFrames(), SizeIs(1));
  }
}

TEST_P(ServerStreamLimitsTest, EndsTheCallOverBadMessages) {
  const struct {
    const char* name;
    std::string bytes;
    StatusCode code;
    const char* text;
  } kCases[] = {
      {"a message that does not parse", Message("\x0a\xff"), StatusCode::kInternal,
       "message of 2 bytes does not parse"},
      {"fragments too long", Message("abc", kMore, LengthHead(5)) + Message("def", kMore),
       StatusCode::kInternal, "fragments have 6 bytes, message_length is 5"},
      {"fragments too short", Message("abc", kMore, LengthHead(5)) + Message("d"), StatusCode::kInternal,
       "fragments have 4 bytes, message_length is 5"},
      {"a message over the limit", Message("abc", kMore, LengthHead(100'000'000)),
       StatusCode::kResourceExhausted, "message is 100000000 bytes, limit is 67108864"},
      {"a head inside a message", Message("abc", kMore, LengthHead(5)) + Message("de", 0, LengthHead(5)),
       StatusCode::kInternal, "MESSAGE frame that continues a message has a head of 2 bytes"},
      {"a head that does not parse", Message("", 0, "\x08"), StatusCode::kInternal,
       "message head of 1 bytes does not parse"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    std::unique_ptr<RawPeer> other = server_.ConnectAndGreet();
    std::unique_ptr<RawPeer> peer = Begin();
    peer->Send(c.bytes);
    EXPECT_EQ(Read(), ".");
    Finish(absl::OkStatus());
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_THAT(frames, SizeIs(1));
    EXPECT_EQ(frames[0].header.stream, StreamId::Make(kSlot, 0));
    EXPECT_EQ(frames[0].status().status.code(), c.code);
    EXPECT_EQ(std::string(frames[0].status().status.message()), c.text);
    for (RawPeer* one : {peer.get(), other.get()}) {
      one->Send(EncodeRequest({.method = kEchoId, .message = Encoded("x")}));
      EXPECT_THAT(one->TakeFrames(), SizeIs(1));
    }
  }
}

TEST_P(ServerStreamLimitsTest, RefusesRequestsWhileTooManyReplyBytesWait) {
  server_.shared().max_reply_bytes_per_connection = 200'000;
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  AnswerWithMoreThanAWindow();
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId, .message = Encoded("x")}));
  peer->TakeFrames();
  peer->Send(EncodeRequest({.slot = 2, .method = kEchoId, .message = Encoded("x")}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(frames[0].status().not_executed);
  EXPECT_THAT(std::string(frames[0].status().status.message()),
              testing::HasSubstr("bytes of replies wait for the client to accept them, limit is 200000"));
}

}  // namespace
}  // namespace ferry
