// How a server's session tells handlers that wait of their deadlines.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/stream_io.h"
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
using test::kChatId;
using test::kFeatures;
using test::kSlot;
using test::kWaitId;
using test::RawPeer;
using test::ReceivedFrame;
using test::ServerStreamFixture;
using test::Text;
using test::TextOf;
using testing::SizeIs;

using ServerDeadlineTest = ServerStreamFixture;

INSTANTIATE_TEST_SUITE_P(Slices, ServerDeadlineTest, testing::Values(SIZE_MAX, 1), test::NameOfSlice);

// A chat that has a second, of a client that says nothing when that is over.
std::string BeginShortChat(uint32_t slot) {
  return EncodeRequest({.slot = slot, .method = kChatId, .timeout_us = 1'000'000, .flags = 0});
}

TEST_P(ServerDeadlineTest, AReaderThatWaitsIsWokenAtTheDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  ASSERT_THAT(chats(), SizeIs(1));
  int woken = 0;
  chats()[0].requests().WhenReadable([&] { ++woken; });
  server_.Advance(absl::Milliseconds(999));
  EXPECT_EQ(woken, 0);
  server_.Advance(absl::Milliseconds(2));
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(Read(), ".");
  EXPECT_TRUE(chats()[0].context().cancelled());
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kDeadlineExceeded);
}

TEST_P(ServerDeadlineTest, AWriterThatWaitsIsWokenAtTheDeadline) {
  std::unique_ptr<RawPeer> peer =
      server_.ConnectAndGreet({.initial_stream_window = 65'536, .features = kFeatures});
  peer->Send(BeginShortChat(kSlot));
  StreamWriter<Text> replies = chats()[0].replies();
  const Text text = TextOf(std::string(100'000, 'x'));
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kWritten);
  int writable = 0;
  replies.WhenWritable([&] { ++writable; });
  peer->TakeFrames();
  server_.Advance(absl::Milliseconds(1001));
  EXPECT_EQ(writable, 1);
  EXPECT_EQ(replies.TryWrite(text), WriteResult::kEnded);
  Finish(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kDeadlineExceeded);
}

TEST_P(ServerDeadlineTest, EachCallThatWaitsHasItsOwnDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  std::vector<int> woken(3);
  for (uint32_t i = 0; i < 3; ++i) {
    peer->Send(BeginShortChat(kSlot + i));
    chats()[i].requests().WhenReadable([&woken, i] { ++woken[i]; });
    server_.Advance(absl::Milliseconds(100));
  }
  server_.Advance(absl::Milliseconds(701));
  EXPECT_THAT(woken, testing::ElementsAre(1, 0, 0));
  server_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(woken, testing::ElementsAre(1, 1, 0));
  server_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(woken, testing::ElementsAre(1, 1, 1));
}

TEST_P(ServerDeadlineTest, TheDeadlineOfACallThatHasEndedConcernsNoOther) {
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

TEST_P(ServerDeadlineTest, AReaderThatBlocksIsWokenAtTheDeadline) {
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

TEST_P(ServerDeadlineTest, OnCancelTellsOfTheDeadline) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.method = kWaitId, .timeout_us = 1'000'000, .message = Encoded("x")}));
  ASSERT_THAT(server_.service().held, SizeIs(1));
  int told = 0;
  server_.service().held[0].context().OnCancel([&] { ++told; });
  const std::stop_token stop = server_.service().held[0].context().stop_token();
  server_.Advance(absl::Milliseconds(999));
  EXPECT_EQ(told, 0);
  server_.Advance(absl::Milliseconds(2));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(stop.stop_requested());
}

TEST_P(ServerDeadlineTest, OnCancelTellsAtOnceOfADeadlineThatHasPassed) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.method = kWaitId, .timeout_us = 1'000'000, .message = Encoded("x")}));
  ASSERT_THAT(server_.service().held, SizeIs(1));
  server_.Advance(absl::Seconds(1));
  int told = 0;
  server_.service().held[0].context().OnCancel([&] { ++told; });
  EXPECT_EQ(told, 1);
  server_.Advance(absl::Seconds(1));
  EXPECT_EQ(told, 1);
}

TEST_P(ServerDeadlineTest, OnCancelReplacesWhatTheDeadlineHasNotTold) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.method = kWaitId, .timeout_us = 1'000'000, .message = Encoded("x")}));
  ASSERT_THAT(server_.service().held, SizeIs(1));
  int told = 0;
  server_.service().held[0].context().OnCancel([&] { told += 10; });
  server_.Advance(absl::Seconds(1));
  server_.service().held[0].context().OnCancel([&] { ++told; });
  server_.Advance(absl::Seconds(1));
  EXPECT_EQ(told, 1);
}

TEST_P(ServerDeadlineTest, ShortDeadlinesAreLookedForTogether) {
  std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet({.features = kFeatures});
  std::vector<int> woken(3);
  for (uint32_t i = 0; i < 3; ++i) {
    peer->Send(EncodeRequest({.slot = kSlot + i, .method = kChatId, .timeout_us = 1000, .flags = 0}));
    chats()[i].requests().WhenReadable([&woken, i] { ++woken[i]; });
    server_.Advance(absl::Milliseconds(2));
  }
  // 2 ms after the first began, and not before 9 ms later for the others.
  EXPECT_THAT(woken, testing::ElementsAre(1, 0, 0));
  server_.Advance(absl::Milliseconds(4));
  EXPECT_THAT(woken, testing::ElementsAre(1, 0, 0));
  server_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(woken, testing::ElementsAre(1, 1, 1));
}

}  // namespace
}  // namespace ferry
