// How a server's session ends calls early, and how it ends itself.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/server_session_fixture.h"
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
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, ServerSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

// ---------------------------------------------------------------- Cancelling

TEST_P(ServerSessionTest, TellsAHandlerOfCancellation) {
  SessionServer server(Options());
  std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = 1, .method = kWaitId}) + EncodeRequest({.slot = 2, .method = kWaitId}) +
             EncodeRequest({.slot = 3, .method = kWaitId}));
  std::vector<std::string> log;
  auto held = [&](size_t i) -> ServerContext& { return server.service().held[i].context(); };
  held(0).OnCancel([&] { log.push_back("replaced"); });
  held(0).OnCancel([&] { log.push_back("cancelled"); });
  peer->Send(Cancel(1, 0));
  EXPECT_THAT(log, testing::ElementsAre("cancelled"));
  held(0).OnCancel([&] { log.push_back("at once"); });
  EXPECT_THAT(log, testing::ElementsAre("cancelled", "at once"));
  // A call that has ended drops its task.
  auto kept = std::make_shared<int>(0);
  held(1).OnCancel([kept, &log] { log.push_back("ended"); });
  server.service().held.erase(server.service().held.begin() + 1);
  EXPECT_EQ(kept.use_count(), 1);
  held(1).OnCancel([&] { log.push_back("gone"); });
  server.InLoop([&] { server.session().Close(absl::CancelledError("gone")); });
  EXPECT_THAT(log, testing::ElementsAre("cancelled", "at once", "gone"));
}

TEST_P(ServerSessionTest, DoesNotStartACallThatIsCancelledBefore) {
  SessionServer server(Options());
  server.hold_executor = true;
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kEchoId}) + Cancel(1, 0));
  server.Settle();
  EXPECT_THAT(peer->TakeFrames(), SizeIs(0));
  server.hold_executor = false;
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kCancelled);
  EXPECT_TRUE(frames[0].status().not_executed);
  EXPECT_EQ(server.service().started, 0);
}

TEST_P(ServerSessionTest, TellsARunningHandlerOfCancel) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId}));
  server.Settle();
  ASSERT_THAT(server.service().held, SizeIs(1));
  EXPECT_FALSE(server.service().held[0].context().cancelled());
  peer->Send(Cancel(1, 0) + Cancel(1, 0));
  EXPECT_TRUE(server.service().held[0].context().cancelled());
  EXPECT_THAT(peer->TakeFrames(), SizeIs(0)) << "the slot is in use until the handler lets go";
  server.service().FinishHeld(absl::OkStatus());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  ExpectStatus(frames[0], StatusCode::kCancelled, "the client cancelled the call", false);
}

TEST_P(ServerSessionTest, EndsACancelledCallAsItsHandlerDoes) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId}) + Cancel(1, 0));
  server.Settle();
  ASSERT_THAT(server.service().held, SizeIs(0)) << "cancelled before it began";
  peer->Send(EncodeRequest({.generation = 1, .method = kWaitId}));
  server.Settle();
  peer->Send(Cancel(1, 1));
  server.service().FinishHeld(absl::DataLossError("half done"));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[1].status().status, absl::DataLossError("half done"));
}

TEST_P(ServerSessionTest, CancelsARequestThatIsNotWhole) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kEchoId, .flags = kMore, .head = LengthHead(100), .message = "x"}));
  peer->Send(Cancel(1, 0) + Fragment(1, "y", kMore));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  ExpectStatus(frames[0], StatusCode::kCancelled, "the client cancelled the call", true);
  EXPECT_EQ(server.shared().request_budget.used(), 0u);
}

TEST_P(ServerSessionTest, IgnoresACancelThatComesAfterTheAnswer) {
  SessionServer::Options options = Options();
  options.echo_inline = true;
  SessionServer server(options);
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kEchoId}) + Cancel(1, 0) +
             EncodeRequest({.generation = 1, .method = kEchoId}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.type, FrameType::kResponse);
  EXPECT_EQ(frames[1].header.type, FrameType::kResponse);
}

// ---------------------------------------------------------------- Deadlines

TEST_P(ServerSessionTest, SaysThatTheDeadlinePassedWhileTheHandlerRan) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId, .timeout_us = 20'000}));
  server.Settle();
  EXPECT_EQ(server.service().held[0].context().time_left(), absl::Milliseconds(20));
  server.Advance(absl::Milliseconds(30));
  EXPECT_TRUE(server.service().held[0].context().cancelled());
  EXPECT_EQ(server.service().held[0].context().time_left(), absl::ZeroDuration());
  server.service().FinishHeld(absl::OkStatus());
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  ExpectStatus(*answer, StatusCode::kDeadlineExceeded, "deadline of 20ms exceeded before the handler ended",
               false);
}

TEST(ServerSessionInlineTest, DoesNotStartACallWhoseTimeTheCallsBeforeItTook) {
  SessionServer server({.echo_inline = true});
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  server.service().on_echo = [&](auto call) {
    server.clock().Advance(absl::Milliseconds(5));
    std::move(call).Finish(absl::OkStatus());
  };
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId}) +
             EncodeRequest({.slot = 2, .method = kEchoId, .timeout_us = 5000}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(server.service().started, 1);
  EXPECT_EQ(frames[1].status().status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(frames[1].status().not_executed);
}

TEST(ServerSessionInlineTest, CountsADeadlineFromWhenItsRequestWasReadThoughItsCallsAreTimed) {
  SessionServer server({.echo_inline = true});
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  absl::Duration takes = absl::Microseconds(40);
  server.service().on_echo = [&](auto call) {
    server.clock().Advance(takes);
    std::move(call).Finish(absl::OkStatus());
  };
  // Slow enough to be timed one by one, and not to be moved to the executor.
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId}));
  ASSERT_THAT(peer->TakeFrames(), SizeIs(1));
  takes = absl::Milliseconds(5);
  peer->Send(EncodeRequest({.slot = 1, .generation = 1, .method = kEchoId}) +
             EncodeRequest({.slot = 2, .method = kEchoId, .timeout_us = 5000}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[1].status().status.code(), StatusCode::kDeadlineExceeded);
}

TEST(ServerSessionInlineTest, CountsADeadlineFromWhenItsRequestWasRead) {
  SessionServer server({.echo_inline = true});
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  for (int i = 0; i < 3; ++i) {
    server.Advance(absl::Seconds(1));
    const uint32_t generation = static_cast<uint32_t>(i);
    peer->Send(EncodeRequest({.slot = 1, .generation = generation, .method = kEchoId}) +
               EncodeRequest({.slot = 2, .generation = generation, .method = kEchoId, .timeout_us = 5000}));
    const std::vector<ReceivedFrame> frames = peer->TakeFrames();
    ASSERT_THAT(frames, SizeIs(2));
    EXPECT_EQ(frames[1].header.type, FrameType::kResponse);
  }
}

// ---------------------------------------------------------------- The connection's own frames

TEST_P(ServerSessionTest, AnswersPing) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeFrame({.type = FrameType::kPing}, "", "12345678"));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kPing);
  EXPECT_EQ(frames[0].header.flags, transport::kAck);
  EXPECT_EQ(frames[0].message(), "12345678");
}

TEST_P(ServerSessionTest, ClosesWhenTheClientSaysThatTheConnectionEnds) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId}));
  peer->Send(EncodeHeadFrame(FrameType::kStatus,
                             EncodeStatusHead({.status = absl::InternalError("I am lost")}, 16384), {},
                             kEndStream));
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->TakeBytes(), "") << "no STATUS answers a STATUS";
  EXPECT_EQ(server.open_sessions(), 0u);
  EXPECT_TRUE(server.service().held[0].context().cancelled());
}

// The connection stays for a while, so that the client can read why; it may not read at all.
TEST_P(ServerSessionTest, TellsHandlersAtOnceThatTheConnectionIsBroken) {
  SessionServer server(Options());
  const auto peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId}));
  ASSERT_THAT(server.service().held, SizeIs(1));
  peer->Send(test::EncodeSettingsFrame({}));
  EXPECT_EQ(server.open_sessions(), 1u);
  EXPECT_TRUE(server.service().held[0].context().cancelled());
}

TEST_P(ServerSessionTest, GoesOnAfterTheClientsDrain) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  wire::DrainHead drain;
  drain.set_last_ordinal(2);
  peer->Send(EncodeRequest({.slot = 1, .method = kWaitId}) + EncodeRequest({.slot = 2, .method = 1}) +
             EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  server.service().FinishHeld(absl::OkStatus());
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  EXPECT_FALSE(peer->ended());
}

// ---------------------------------------------------------------- Ending

TEST_P(ServerSessionTest, AnswersWhatHasBegunWhenTheClientStopsWriting) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(
      EncodeRequest({.slot = 1, .method = kWaitId}) + EncodeRequest({.slot = 2, .method = kWaitId}) +
      EncodeRequest({.slot = 3, .method = kEchoId, .flags = kMore, .head = LengthHead(9), .message = "x"}));
  peer->FinishWriting();
  std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.stream.slot(), 3u);
  ExpectStatus(frames[0], StatusCode::kCancelled, "the client stopped writing in the middle of the request",
               true);
  EXPECT_EQ(frames[1].header.type, FrameType::kPing);
  server.service().FinishHeld(absl::OkStatus());
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  EXPECT_FALSE(peer->ended());
  server.service().FinishHeld(absl::OkStatus());
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(server.open_sessions(), 0u);
}

// It looks like a client that has stopped writing, until something is sent to it.
TEST_P(ServerSessionTest, NoticesThatAClientIsGoneThoughNothingIsToBeSent) {
  SessionServer server(Options());
  std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = 1, .method = kWaitId}));
  server.Settle();
  ASSERT_THAT(server.service().held, SizeIs(1));
  peer->Close();
  server.Settle();
  EXPECT_TRUE(server.service().held[0].context().cancelled());
  EXPECT_EQ(server.open_sessions(), 0u);
}

TEST_P(ServerSessionTest, LetsHandlersFinishAfterTheConnectionIsGone) {
  SessionServer server(Options());
  std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = 1, .method = kWaitId}) + EncodeRequest({.slot = 2, .method = kWaitId}));
  server.Settle();
  server.hold_executor = true;
  peer->Send(
      EncodeRequest({.slot = 3, .method = kEchoId}) +
      EncodeRequest({.slot = 4, .method = kEchoId, .flags = kMore, .head = LengthHead(9), .message = "x"}));
  peer.reset();
  server.Settle();
  server.service().FinishHeld(absl::OkStatus());
  server.Settle();
  EXPECT_EQ(server.open_sessions(), 0u);
  EXPECT_TRUE(server.service().held[0].context().cancelled());
  server.service().FinishHeld(absl::OkStatus());
  server.hold_executor = false;
  server.Settle();
  EXPECT_EQ(server.service().started, 2);
  EXPECT_EQ(server.shared().request_budget.used(), 0u);
}

TEST_P(ServerSessionTest, DrainsByAnsweringWhatItAcceptedAndNothingElse) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = 1, .method = kWaitId}) + EncodeRequest({.slot = 2, .method = 1}));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(1));
  server.InLoop([&] { server.session().Drain(); });
  server.InLoop([&] { server.session().Drain(); });
  const std::vector<ReceivedFrame> drain = peer->TakeFrames();
  ASSERT_THAT(drain, SizeIs(1));
  EXPECT_EQ(drain[0].header.type, FrameType::kDrain);
  wire::DrainHead head;
  ASSERT_TRUE(head.ParseFromString(drain[0].head()));
  EXPECT_EQ(head.last_ordinal(), 2u);

  peer->Send(
      EncodeRequest({.slot = 2, .generation = 1, .method = kEchoId}) + Cancel(2, 1) +
      EncodeRequest({.slot = 3, .method = kEchoId, .flags = kMore, .head = LengthHead(9), .message = "x"}) +
      Fragment(3, "y", kMore));
  EXPECT_THAT(peer->TakeFrames(), SizeIs(0));
  EXPECT_FALSE(peer->ended());
  server.service().FinishHeld(absl::OkStatus());
  const std::vector<ReceivedFrame> answers = peer->TakeFrames();
  ASSERT_THAT(answers, SizeIs(1));
  EXPECT_EQ(answers[0].header.stream, StreamId::Make(1, 0));
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(server.service().started, 1);
}

TEST_P(ServerSessionTest, TellsAClientWhoseFirstBytesWereNotReadYetThatItDrains) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndDrain(test::Preface() + test::EncodeSettingsFrame() +
                                                               EncodeRequest({.slot = 1, .method = kEchoId}));
  EXPECT_TRUE(peer->TakePreface());
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.type, FrameType::kSettings);
  EXPECT_EQ(frames[1].header.type, FrameType::kDrain);
  wire::DrainHead head;
  ASSERT_TRUE(head.ParseFromString(frames[1].head()));
  EXPECT_EQ(head.last_ordinal(), 0u);
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(server.service().started, 0);
}

TEST_P(ServerSessionTest, DrainsAConnectionThatHasSaidNothing) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.Connect();
  server.InLoop([&] { server.session().Drain(); });
  EXPECT_TRUE(peer->ended());
  EXPECT_EQ(peer->TakeBytes(), "") << "a client that did not say that it speaks our protocol is told nothing";
}

}  // namespace
}  // namespace ferry
