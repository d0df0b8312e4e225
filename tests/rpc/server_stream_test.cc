// How a server's session carries streams, frame by frame.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/streaming_call.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::EncodeRequest;
using test::kChatId;
using test::kEchoId;
using test::kWaitId;
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using test::Text;
using testing::IsEmpty;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

constexpr uint32_t kSlot = 5;
constexpr uint64_t kFeatures = kFlowControlFeature | kStreamingFeature;

Text TextOf(const std::string& text) {
  Text message;
  message.set_text(text);
  return message;
}

std::string Encoded(const std::string& text) { return TextOf(text).SerializeAsString(); }

std::string Message(const std::string& bytes, uint8_t flags = 0, const std::string& head = "",
                    uint32_t slot = kSlot) {
  return EncodeFrame({.type = FrameType::kMessage, .flags = flags, .stream = StreamId::Make(slot, 0)}, head,
                     bytes);
}

std::string Window(uint32_t increment, uint32_t slot) {
  wire::WindowHead head;
  head.set_increment(increment);
  return EncodeHeadFrame(FrameType::kWindow, head.SerializeAsString(), StreamId::Make(slot, 0));
}

std::string BeginChat(uint32_t slot = kSlot) {
  return EncodeRequest({.slot = slot, .method = kChatId, .flags = 0});
}

std::string Repeated(const std::string& bytes, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += bytes;
  return all;
}

std::string LengthHead(uint64_t length) {
  wire::MessageHead head;
  head.set_message_length(length);
  return head.SerializeAsString();
}

class ServerStreamTest : public testing::TestWithParam<size_t> {
 protected:
  ServerStreamTest() : server_(Options()) {}

  SessionServer::Options Options() {
    SessionServer::Options options{.slice = GetParam()};
    options.settings.features = kFeatures;
    options.settings.initial_stream_window = 100'000;
    return options;
  }

  // A peer on whose slot a chat has begun.
  std::unique_ptr<RawPeer> Begin(WireSettings client = {.features = kFeatures}) {
    std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet(client);
    peer->Send(BeginChat());
    EXPECT_THAT(chats(), SizeIs(1));
    return peer;
  }

  std::vector<BidiStreamingCall<Text, Text>>& chats() { return server_.service().chats; }

  // Echo answers with 300,000 bytes from now on.
  void AnswerWithMoreThanAWindow() {
    server_.service().on_echo = [](test::ScriptedEcho::Call call) {
      call.reply().set_text(std::string(300'000, 'x'));
      std::move(call).Finish(absl::OkStatus());
    };
  }

  // Reads what has come: the texts, "-" if there is none yet, "." at the end.
  std::string Read() {
    Text text;
    switch (chats()[0].requests().TryRead(text)) {
      case ReadResult::kMessage:
        return text.text();
      case ReadResult::kNothing:
        return "-";
      case ReadResult::kEnd:
        return ".";
    }
    return "?";
  }

  // Finishes the chat on the loop.
  void Finish(absl::Status status) {
    BidiStreamingCall<Text, Text> chat = std::move(chats()[0]);
    chats().clear();
    std::move(chat).Finish(std::move(status));
  }

  SessionServer server_;
};

INSTANTIATE_TEST_SUITE_P(Slices, ServerStreamTest, testing::Values(SIZE_MAX, 1),
                         [](const testing::TestParamInfo<size_t>& info) {
                           return std::string(info.param == 1 ? "OneByte" : "Whole");
                         });

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

// ---------------------------------------------------------------- Deadlines

// A chat that has a second, of a client that says nothing when that is over.
std::string BeginShortChat(uint32_t slot) {
  return EncodeRequest({.slot = slot, .method = kChatId, .timeout_us = 1'000'000, .flags = 0});
}

TEST_P(ServerStreamTest, AReaderThatWaitsIsWokenAtTheDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  ASSERT_THAT(chats(), SizeIs(1));
  int woken = 0;
  chats()[0].requests().WhenReadable([&] { ++woken; });
  server_.Advance(absl::Milliseconds(999));
  EXPECT_EQ(woken, 0);
  server_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(Read(), ".");
  EXPECT_TRUE(chats()[0].context().cancelled());
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kDeadlineExceeded);
}

TEST_P(ServerStreamTest, AWriterThatWaitsIsWokenAtTheDeadline) {
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  StreamWriter<Text> replies = chats()[0].replies();
  const Text text = TextOf(std::string(100'000, 'x'));
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  int writable = 0;
  replies.WhenWritable([&] { ++writable; });
  peer->TakeFrames();
  server_.Advance(absl::Seconds(1));
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kEnded);
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kDeadlineExceeded);
}

TEST_P(ServerStreamTest, EachCallThatWaitsHasItsOwnDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  std::vector<int> woken(3);
  for (uint32_t i = 0; i < 3; ++i) {
    peer->Send(BeginShortChat(kSlot + i));
    chats()[i].requests().WhenReadable([&woken, i] { ++woken[i]; });
    server_.Advance(absl::Milliseconds(100));
  }
  server_.Advance(absl::Milliseconds(700));
  EXPECT_THAT(woken, testing::ElementsAre(1, 0, 0));
  server_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(woken, testing::ElementsAre(1, 1, 0));
  server_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(woken, testing::ElementsAre(1, 1, 1));
}

TEST_P(ServerStreamTest, TheDeadlineOfACallThatHasEndedConcernsNoOther) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  chats()[0].requests().WhenReadable([] {});
  Finish(absl::OkStatus());
  peer->TakeFrames();
  peer->Send(EncodeRequest({.slot = kSlot, .generation = 1, .method = kChatId, .flags = 0}));
  ASSERT_THAT(chats(), SizeIs(1));
  int woken = 0;
  chats()[0].requests().WhenReadable([&] { ++woken; });
  server_.Advance(absl::Hours(1));
  EXPECT_EQ(woken, 0);
  EXPECT_FALSE(chats()[0].context().cancelled());
  Finish(absl::OkStatus());
  server_.Settle();
  EXPECT_EQ(woken, 1);
}

TEST_P(ServerStreamTest, AReaderThatBlocksIsWokenAtTheDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  std::atomic<bool> ended{false};
  std::thread reader([&] {
    Text text;
    EXPECT_FALSE(chats()[0].requests().Read(text));
    ended = true;
  });
  // It may only be about to wait.
  while (!ended) server_.Advance(absl::Milliseconds(100));
  reader.join();
}

TEST_P(ServerStreamTest, OnCancelTellsOfTheDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.method = kWaitId, .timeout_us = 1'000'000, .message = Encoded("x")}));
  ASSERT_THAT(server_.service().held, SizeIs(1));
  int told = 0;
  server_.service().held[0].context().OnCancel([&] { ++told; });
  const std::stop_token stop = server_.service().held[0].context().stop_token();
  server_.Advance(absl::Milliseconds(999));
  EXPECT_EQ(told, 0);
  server_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(stop.stop_requested());
}

// ---------------------------------------------------------------- Bad input

TEST_P(ServerStreamTest, EndsTheConnectionOverBadFrames) {
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

TEST_P(ServerStreamTest, EndsTheCallOverBadMessages) {
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

TEST_P(ServerStreamTest, RefusesRequestsWhileTooManyReplyBytesWait) {
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
