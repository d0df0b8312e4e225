// How a server's session carries streams, frame by frame.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
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
using test::EncodeHeadFrame;
using test::EncodeRequest;
using test::kChatId;
using test::kEchoId;
using test::kFeatures;
using test::kSlot;
using test::LengthHead;
using test::Message;
using test::RawPeer;
using test::ReceivedFrame;
using test::ServerStreamFixture;
using test::Text;
using test::TextOf;
using test::Window;
using testing::IsEmpty;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

using ServerStreamTest = ServerStreamFixture;

INSTANTIATE_TEST_SUITE_P(Slices, ServerStreamTest, testing::Values(SIZE_MAX, 1), test::NameOfSlice);

TEST_P(ServerStreamTest, ReadsMessagesInOrderToTheEnd) {
  std::unique_ptr<RawPeer> peer = Begin();
  EXPECT_EQ(Read(), "-");
  peer->Send(Message(Encoded("one")) + Message(""));
  EXPECT_EQ(Read(), "one");
  EXPECT_EQ(Read(), "");
  EXPECT_EQ(Read(), "-");
  const std::string longer = Encoded("in three parts");
  peer->Send(Message(longer.substr(0, 3), kMore, LengthHead(longer.size())));
  EXPECT_EQ(Read(), "-");
  peer->Send(Message(longer.substr(3, 4), kMore) + Message(longer.substr(7), kEndStream));
  EXPECT_EQ(Read(), "in three parts");
  EXPECT_EQ(Read(), ".");
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kResponse);
  EXPECT_TRUE(frames[0].header.has(kEndStream));
  EXPECT_EQ(frames[0].header.length, 0u);
}

TEST_P(ServerStreamTest, AFrameThatOnlyEndsTheStreamIsNoMessage) {
  std::unique_ptr<RawPeer> peer = Begin();
  peer->Send(Message("", kEndStream));
  EXPECT_EQ(Read(), ".");
}

TEST_P(ServerStreamTest, WritesMessagesAndThenTheEnd) {
  std::unique_ptr<RawPeer> peer = Begin();
  StreamWriter<Text> replies = chats()[0].replies();
  chats()[0].context().initial_metadata().Add("first", "1");
  EXPECT_EQ(replies.TryWrite(TextOf("a")), WriteResult::kWritten);
  EXPECT_EQ(replies.TryWrite(TextOf("b")), WriteResult::kWritten);
  chats()[0].context().trailing_metadata().Add("last", "2");
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(3));
  wire::MessageHead first;
  ASSERT_TRUE(first.ParseFromString(frames[0].head()));
  ASSERT_EQ(first.initial_metadata_size(), 1);
  EXPECT_EQ(frames[0].message(), Encoded("a"));
  EXPECT_EQ(frames[1].header.head, 0);
  wire::ResponseHead last;
  ASSERT_TRUE(last.ParseFromString(frames[2].head()));
  EXPECT_EQ(last.initial_metadata_size(), 0);
  EXPECT_EQ(last.trailing_metadata_size(), 1);
}

// ---------------------------------------------------------------- Windows

TEST_P(ServerStreamTest, GrantsAStreamsWindowAsItsMessagesAreRead) {
  std::unique_ptr<RawPeer> peer = Begin();
  for (int i = 0; i < 3; ++i) peer->Send(Message(Encoded(std::string(30'000, 'x'))));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(0));
  server_.InLoop([&] {
    Read();
    Read();
  });
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kWindow);
  EXPECT_EQ(frames[0].header.stream, StreamId::Make(kSlot, 0));
  EXPECT_EQ(*DecodeWindowHead(frames[0].head()), 2 * (Encoded(std::string(30'000, 'x')).size() + 12));
}

TEST_P(ServerStreamTest, GrantsTheConnectionsWindowAsFramesArrive) {
  std::unique_ptr<RawPeer> peer = Begin();
  // Of calls that have ended too.
  Finish(absl::OkStatus());
  peer->TakeFrames();
  const std::string message = Message(std::string(65'536, 'x'));
  uint64_t granted = 0;
  for (int i = 0; i < 130; ++i) {
    peer->Send(message);
    for (const ReceivedFrame& frame : peer->TakeFrames()) {
      EXPECT_EQ(frame.header.stream, transport::kConnectionStream);
      granted += *DecodeWindowHead(frame.head());
    }
  }
  EXPECT_GE(granted, WireSettings().initial_connection_window / 2);
}

TEST_P(ServerStreamTest, AWriterWaitsForItsWindow) {
  std::unique_ptr<RawPeer> peer = Begin({.initial_stream_window = 65'536, .features = kFeatures});
  StreamWriter<Text> replies = chats()[0].replies();
  const Text text = TextOf(std::string(30'000, 'x'));
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kFull);
  int writable = 0;
  replies.WhenWritable([&] { ++writable; });
  peer->TakeFrames();
  EXPECT_EQ(writable, 0);
  peer->Send(Window(65'536, kSlot));
  EXPECT_FALSE(peer->TakeFrames().empty());
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
}

TEST_P(ServerStreamTest, AClientThatHasHalfClosedGetsEverything) {
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  const std::string text(300'000, 'x');
  const std::string request = Encoded(text);
  peer->Send(EncodeRequest({.method = kEchoId,
                            .flags = kMore,
                            .head = LengthHead(request.size()),
                            .message = request.substr(0, 60'000)}));
  for (size_t at = 60'000; at < request.size(); at += 60'000) {
    const bool last = at + 60'000 >= request.size();
    peer->Send(Message(request.substr(at, 60'000), last ? kEndStream : kMore, "", 1));
  }
  peer->FinishWriting();
  std::string reply;
  for (const ReceivedFrame& frame : peer->TakeFrames()) {
    if (frame.header.type != FrameType::kWindow) reply += frame.message();
  }
  EXPECT_TRUE(reply == request) << reply.size();
  EXPECT_TRUE(peer->ended());
}

TEST_P(ServerStreamTest, ACancelledReplyThatWaitsIsEnded) {
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  AnswerWithMoreThanAWindow();
  peer->Send(EncodeRequest({.method = kEchoId, .message = Encoded("x")}));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  peer->Send(EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(1, 0)));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
}

// ---------------------------------------------------------------- How they end

TEST_P(ServerStreamTest, CancelWakesReaderAndWriter) {
  std::unique_ptr<RawPeer> peer = Begin();
  int woken = 0;
  chats()[0].requests().WhenReadable([&] { ++woken; });
  peer->Send(EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(kSlot, 0)));
  EXPECT_EQ(woken, 1);
  EXPECT_TRUE(chats()[0].context().cancelled());
  EXPECT_EQ(Read(), ".");
  EXPECT_EQ(chats()[0].replies().TryWrite(TextOf("x")), WriteResult::kEnded);
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
}

TEST_P(ServerStreamTest, TheEndOfTheClientsBytesCancelsAStreamThatHasNotEnded) {
  std::unique_ptr<RawPeer> peer = Begin();
  peer->Send(Message(Encoded("one")));
  peer->FinishWriting();
  EXPECT_EQ(Read(), "one");
  EXPECT_EQ(Read(), ".");
  EXPECT_TRUE(chats()[0].context().cancelled());
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.type, FrameType::kPing) << "is the client there at all?";
  EXPECT_EQ(frames[1].status().status.code(), StatusCode::kCancelled);
  EXPECT_TRUE(peer->ended());
}

TEST_P(ServerStreamTest, AStatusComesAfterWhatWasWrittenBefore) {
  std::unique_ptr<RawPeer> peer = Begin({.initial_stream_window = 65'536, .features = kFeatures});
  StreamWriter<Text> replies = chats()[0].replies();
  const Text text = TextOf(std::string(100'000, 'x'));
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  size_t received = 0;
  for (const ReceivedFrame& frame : peer->TakeFrames()) received += frame.message().size();
  EXPECT_LT(received, text.ByteSizeLong());
  Finish(absl::AbortedError("no more"));
  EXPECT_THAT(peer->TakeFrames(), IsEmpty());
  wire::WindowHead window;
  window.set_increment(100'000);
  peer->Send(EncodeHeadFrame(FrameType::kWindow, window.SerializeAsString(), StreamId::Make(kSlot, 0)));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(received + frames[0].message().size(), text.ByteSizeLong());
  EXPECT_EQ(frames[1].status().status.message(), "no more");
}

TEST_P(ServerStreamTest, TheStatusOfACancelledCallDropsWhatWaits) {
  std::unique_ptr<RawPeer> peer = Begin({.initial_stream_window = 65'536, .features = kFeatures});
  StreamWriter<Text> replies = chats()[0].replies();
  EXPECT_EQ(replies.TryWrite(TextOf(std::string(200'000, 'x'))), WriteResult::kWritten);
  peer->TakeFrames();
  peer->Send(EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(kSlot, 0)));
  Finish(absl::AbortedError("no more"));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.message(), "no more");
}

TEST_P(ServerStreamTest, ACancelWhileACallEndsDropsWhatWaits) {
  std::unique_ptr<RawPeer> peer = Begin({.initial_stream_window = 65'536, .features = kFeatures});
  EXPECT_EQ(chats()[0].replies().TryWrite(TextOf(std::string(200'000, 'x'))), WriteResult::kWritten);
  peer->TakeFrames();
  // Destroyed by the call's end, which has asked by then whether the call is cancelled, and has sent nothing.
  std::shared_ptr<void> cancel(
      nullptr, [&](void*) { peer->Send(EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(kSlot, 0))); });
  chats()[0].context().OnCancel([cancel = std::move(cancel)] {});
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
  // The slot is free.
  peer->Send(EncodeRequest({.slot = kSlot, .generation = 1, .method = kChatId, .flags = 0}));
  EXPECT_THAT(chats(), SizeIs(1));
}

TEST_P(ServerStreamTest, FreesWhatItHeldWhenTheCallEnds) {
  std::unique_ptr<RawPeer> peer = Begin();
  for (int i = 0; i < 3; ++i) peer->Send(Message(Encoded(std::string(30'000, 'x'))));
  EXPECT_GT(server_.shared().request_budget.used(), 90'000u);
  Finish(absl::OkStatus());
  EXPECT_EQ(server_.shared().request_budget.used(), 0u);
}

TEST_P(ServerStreamTest, CancelEndsACallWhoseRequestIsStillArriving) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.slot = kSlot,
                            .method = test::kWatchId,
                            .flags = kMore,
                            .head = LengthHead(100),
                            .message = "part"}) +
             EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(kSlot, 0)));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
  EXPECT_EQ(server_.service().started, 0);
  EXPECT_EQ(server_.shared().request_budget.used(), 0u);
}

TEST_P(ServerStreamTest, GrantsALongRequestFromItsFirstFragmentOn) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.slot = kSlot,
                            .method = test::kWatchId,
                            .flags = kMore,
                            .head = LengthHead(1'000'000),
                            .message = std::string(60'000, 'x')}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kWindow);
  EXPECT_EQ(*DecodeWindowHead(frames[0].head()), 60'012u);
}

TEST_P(ServerStreamTest, ASlotIsInUseUntilTheLastOfItsAnswerIsSent) {
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  AnswerWithMoreThanAWindow();
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId, .message = Encoded("x")}));
  peer->TakeFrames();
  peer->Send(EncodeRequest({.slot = 1, .generation = 1, .method = kEchoId, .message = Encoded("x")}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(std::string(frames[0].status().status.message()), "REQUEST frame is on slot 1, which is in use");
  EXPECT_TRUE(peer->ended());
}

}  // namespace
}  // namespace ferry
