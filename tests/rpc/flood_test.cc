// What a server makes of clients that send well-formed frames without end (PROTOCOL.md [P7.10], [P11.4],
// [P14.5]).
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
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
using testing::HasSubstr;
using testing::SizeIs;
using transport::FrameType;
using transport::StreamId;

constexpr uint64_t kFeatures = kFlowControlFeature | kStreamingFeature;
constexpr uint32_t kLimit = 10;
constexpr uint32_t kSlot = 5;

std::string Repeated(absl::string_view bytes, uint32_t times) {
  std::string all;
  for (uint32_t i = 0; i < times; ++i) all.append(bytes.data(), bytes.size());
  return all;
}

std::string Ping(uint8_t flags = 0) {
  return EncodeFrame({.type = FrameType::kPing, .flags = flags}, "", "12345678");
}

std::string Cancel(uint32_t slot, uint32_t generation = 0) {
  return EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(slot, generation));
}

std::string Window(uint32_t slot) {
  wire::WindowHead head;
  head.set_increment(1);
  return EncodeHeadFrame(FrameType::kWindow, head.SerializeAsString(), StreamId::Make(slot, 0));
}

class FloodTest : public testing::TestWithParam<size_t> {
 protected:
  FloodTest() : server_(Options()) { server_.shared().max_control_frames_per_second = kLimit; }

  static SessionServer::Options Options() {
    SessionServer::Options options{.slice = GetParam()};
    options.settings.features = kFeatures;
    options.settings.max_streams = 100;
    return options;
  }

  std::unique_ptr<RawPeer> Connect() { return server_.ConnectAndGreet({.features = kFeatures}); }

  void ExpectServed(RawPeer& peer, uint32_t slot = 1) {
    peer.Send(EncodeRequest({.slot = slot, .method = kEchoId}));
    const std::optional<ReceivedFrame> reply = peer.TakeFrame();
    ASSERT_TRUE(reply.has_value()) << "no answer";
    EXPECT_EQ(reply->header.type, FrameType::kResponse);
  }

  SessionServer server_;
};

INSTANTIATE_TEST_SUITE_P(Slices, FloodTest, testing::Values(SIZE_MAX, 1),
                         [](const testing::TestParamInfo<size_t>& info) {
                           return std::string(info.param == 1 ? "OneByte" : "Whole");
                         });

// ---------------------------------------------------------------- Control frames

struct Flood {
  const char* name;
  std::string frame;
  // How many answers each frame has.
  uint32_t answers = 0;
  // What goes before.
  std::string first = {};
};

std::vector<Flood> Floods() {
  const std::string running = EncodeRequest({.slot = kSlot, .method = kWaitId});
  const std::string ended = EncodeRequest({.slot = kSlot, .method = kEchoId});
  return {
      {"PING", Ping(), 1},
      {"PING that answers nothing", Ping(transport::kAck)},
      {"CANCEL of a running call", Cancel(kSlot), 0, running},
      {"CANCEL of a call that has ended", Cancel(kSlot), 0, ended},
      {"CANCEL of an earlier generation", Cancel(kSlot, 4095), 0, running},
      {"WINDOW of the connection", Window(0)},
      {"WINDOW of a call that has ended", Window(kSlot), 0, ended},
      {"requests of no method", EncodeRequest({.method = 77}), 1},
      {"requests on a slot that is refused", EncodeRequest({.slot = 300, .method = kEchoId}), 1},
  };
}

TEST_P(FloodTest, EndsAConnectionThatSendsMoreThanTheLimit) {
  for (const Flood& flood : Floods()) {
    SCOPED_TRACE(flood.name);
    const std::unique_ptr<RawPeer> bystander = Connect();
    const std::unique_ptr<RawPeer> peer = Connect();
    peer->Send(flood.first);
    peer->TakeFrames();

    peer->Send(Repeated(flood.frame, kLimit));
    EXPECT_THAT(peer->TakeFrames(), SizeIs(kLimit * flood.answers));
    ASSERT_FALSE(peer->ended());
    peer->Send(Repeated(flood.frame, 1000));
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_THAT(frames, SizeIs(1));
    EXPECT_EQ(frames[0].header.stream, transport::kConnectionStream);
    EXPECT_EQ(frames[0].status().status.code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(std::string(frames[0].status().status.message()),
              "11 control frames within a second, limit is 10");
    EXPECT_TRUE(peer->ended());
    ExpectServed(*bystander);
    server_.service().held.clear();
  }
}

TEST_P(FloodTest, CountsAllKindsTogether) {
  const std::unique_ptr<RawPeer> peer = Connect();
  peer->Send(EncodeRequest({.slot = kSlot, .method = kWaitId}));
  peer->Send(Repeated(Ping(), 4) + Repeated(Cancel(kSlot), 3) + Repeated(Window(0), 3));
  EXPECT_FALSE(peer->ended());
  peer->Send(Ping());
  EXPECT_TRUE(peer->ended());
}

TEST_P(FloodTest, AcceptsTheLimitEverySecond) {
  const std::unique_ptr<RawPeer> peer = Connect();
  for (int second = 0; second < 5; ++second) {
    peer->Send(Repeated(Ping(), kLimit));
    EXPECT_THAT(peer->TakeFrames(), SizeIs(kLimit));
    server_.Advance(absl::Seconds(1));
  }
  EXPECT_FALSE(peer->ended());
}

TEST_P(FloodTest, DoesNotCountWhatIsServed) {
  const std::unique_ptr<RawPeer> peer = Connect();
  for (uint32_t i = 0; i < 10 * kLimit; ++i) {
    peer->Send(EncodeRequest({.slot = 1, .generation = i, .method = kEchoId}));
    EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  }
  EXPECT_FALSE(peer->ended());
}

// ---------------------------------------------------------------- Opening and cancelling

TEST_P(FloodTest, OpeningAndCancellingRunsNoMoreHandlersThanThereAreSlots) {
  server_.shared().settings.max_streams = 4;
  server_.shared().max_control_frames_per_second = 1'000'000;
  const std::unique_ptr<RawPeer> peer = Connect();
  const auto open_and_cancel = [&](uint32_t generation) {
    for (uint32_t slot = 1; slot < 4; ++slot) {
      peer->Send(EncodeRequest({.slot = slot, .generation = generation, .method = kWaitId}));
      peer->Send(Cancel(slot, generation));
    }
  };
  for (uint32_t generation = 0; generation < 100; ++generation) {
    open_and_cancel(generation);
    ASSERT_THAT(server_.service().held, SizeIs(3));
    // The slots are in use until the handlers have let go, and only then said to be free.
    ASSERT_THAT(peer->TakeFrames(), SizeIs(0));
    while (!server_.service().held.empty()) {
      EXPECT_TRUE(server_.service().held.front().context().cancelled());
      server_.InLoop([&] { server_.service().FinishHeld(absl::OkStatus()); });
    }
    ASSERT_THAT(peer->TakeFrames(), SizeIs(3));
  }
}

TEST_P(FloodTest, AClientThatDoesNotWaitForACancelledCallsEndStartsNoHandler) {
  const std::unique_ptr<RawPeer> bystander = Connect();
  const std::unique_ptr<RawPeer> peer = Connect();
  peer->Send(EncodeRequest({.slot = kSlot, .method = kWaitId}));
  peer->Send(Cancel(kSlot) + EncodeRequest({.slot = kSlot, .generation = 1, .method = kWaitId}));
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(server_.service().started, 1);
  ExpectServed(*bystander);
}

TEST_P(FloodTest, CallsThatAreCancelledWhileTheyWaitForAThreadAreNeverStarted) {
  server_.shared().max_control_frames_per_second = 1'000'000;
  server_.hold_executor = true;
  const std::unique_ptr<RawPeer> peer = Connect();
  for (uint32_t slot = 1; slot < 100; ++slot) {
    peer->Send(EncodeRequest({.slot = slot, .method = kWaitId}) + Cancel(slot));
  }
  EXPECT_EQ(server_.executor().waiting(), 99u);
  server_.hold_executor = false;
  server_.Settle();
  EXPECT_EQ(server_.service().started, 0);
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(99));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
}

// ---------------------------------------------------------------- Messages without bytes

// They cost 12 bytes of the window each, and 4 of memory.
TEST(EmptyMessagesTest, EndTheConnectionWhenTheyExceedTheWindow) {
  SessionServer::Options options;
  options.settings.features = kFeatures;
  SessionServer server(options);
  const std::unique_ptr<RawPeer> bystander = server.ConnectAndGreet();
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet({.features = kFeatures});
  peer->Send(EncodeRequest({.slot = kSlot, .method = kChatId, .flags = 0}));
  const std::string empty = EncodeFrame({.type = FrameType::kMessage, .stream = StreamId::Make(kSlot, 0)});
  const uint32_t fit = WireSettings().initial_stream_window / transport::kFrameHeaderSize;
  peer->Send(Repeated(empty, fit));
  ASSERT_FALSE(peer->ended());
  EXPECT_EQ(server.shared().request_budget.used(), 4 * fit);

  peer->Send(empty);
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_FALSE(frames.empty());
  EXPECT_THAT(std::string(frames.back().status().status.message()),
              HasSubstr("slot 5 has received more than its window of 1048576 bytes"));
  EXPECT_TRUE(peer->ended());
  bystander->Send(EncodeRequest({.method = kEchoId}));
  EXPECT_THAT(bystander->TakeFrames(), SizeIs(1));
}

// Without flow control the budget for unread requests bounds them.
TEST(EmptyMessagesTest, EndTheCallWhenTheyExceedTheBudget) {
  SessionServer::Options options{.max_request_bytes_per_connection = 4000};
  SessionServer server(options);
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = kSlot, .method = kChatId, .flags = 0}));
  const std::string empty = EncodeFrame({.type = FrameType::kMessage, .stream = StreamId::Make(kSlot, 0)});
  peer->Send(Repeated(empty, 100'000));
  EXPECT_LE(server.shared().request_budget.used(), 4000u);
  ASSERT_THAT(server.service().chats, SizeIs(1));
  server.InLoop([&] { std::move(server.service().chats[0]).Finish(absl::OkStatus()); });
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kResourceExhausted);
  peer->Send(EncodeRequest({.method = kEchoId}));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
}

}  // namespace
}  // namespace ferry
