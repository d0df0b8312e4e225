// How a server's session runs the calls of a client that keeps to the protocol.
#include "ferry/rpc/server_session.h"

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
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
using test::kEchoId;
using test::kFailId;
using test::kWaitId;
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

std::string Cancel(uint32_t slot, uint32_t generation) {
  return EncodeHeadFrame(FrameType::kCancel, "", StreamId::Make(slot, generation));
}

std::string Fragment(uint32_t slot, const std::string& bytes, uint8_t flags) {
  return EncodeFrame({.type = FrameType::kMessage, .flags = flags, .stream = StreamId::Make(slot, 0)}, "",
                     bytes);
}

std::string LengthHead(uint64_t length) {
  wire::RequestHead head;
  head.set_message_length(length);
  return head.SerializeAsString();
}

class ServerSessionTest : public testing::TestWithParam<size_t> {
 protected:
  SessionServer::Options Options() const { return {.slice = GetParam()}; }

  void ExpectStatus(const ReceivedFrame& frame, StatusCode code, const std::string& text, bool not_executed) {
    const WireStatus told = frame.status();
    EXPECT_EQ(told.status.code(), code);
    EXPECT_EQ(std::string(told.status.message()), text);
    EXPECT_EQ(told.not_executed, not_executed);
  }
};

INSTANTIATE_TEST_SUITE_P(Slices, ServerSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

// ---------------------------------------------------------------- Calls and answers

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

TEST_P(ServerSessionTest, AnswersACall) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.slot = 7, .method = kEchoId, .message = EncodedText("hello")}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kResponse);
  EXPECT_EQ(frames[0].header.flags, kEndStream);
  EXPECT_EQ(frames[0].header.stream, StreamId::Make(7, 0));
  EXPECT_EQ(frames[0].head(), "");
  EXPECT_EQ(frames[0].message(), EncodedText("hello"));
}

TEST_P(ServerSessionTest, AnswersWithTheStatusItsDetailsAndMetadata) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kFailId, .message = EncodedText("7")}));
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  const WireStatus told = answer->status();
  EXPECT_EQ(told.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(told.status.message(), "no user 7");
  EXPECT_TRUE(told.status.GetPayload("type.googleapis.com/google.protobuf.StringValue").has_value());
  EXPECT_EQ(told.trailing_metadata, Metadata({{"shard", "3"}}));
  EXPECT_FALSE(told.not_executed);
}

TEST_P(ServerSessionTest, CarriesMetadataBothWays) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  Metadata seen;
  server.service().on_echo = [&](auto call) {
    seen = call.context().request_metadata();
    call.context().initial_metadata().Add("cache", "miss");
    call.context().trailing_metadata().Add("shard", "3");
    std::move(call).Finish(absl::OkStatus());
  };
  const absl::StatusOr<std::string> head = EncodeRequestHead({{"user", "ada"}, {"user", "\xff"}}, 0, 16384);
  peer->Send(EncodeRequest({.method = kEchoId, .head = *head}));
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(seen, Metadata({{"user", "ada"}, {"user", "\xff"}}));
  EXPECT_EQ(answer->head(), *EncodeResponseHead({{"cache", "miss"}}, {{"shard", "3"}}, 0, 16384));
}

TEST_P(ServerSessionTest, TellsTheHandlerWhichAttemptItIs) {  // [P6.11]
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  std::vector<int> seen;
  server.service().on_echo = [&](auto call) {
    seen.push_back(call.context().attempt());
    std::move(call).Finish(absl::OkStatus());
  };
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId, .head = HeadOfAttempt("", 3, 0)}));
  peer->TakeFrames();
  // The call object is used again.
  peer->Send(EncodeRequest({.slot = 1, .generation = 1, .method = kEchoId}));
  peer->TakeFrames();
  wire::RequestHead zero;
  zero.add_metadata()->set_key("a");
  peer->Send(
      EncodeRequest({.slot = 1, .generation = 2, .method = kEchoId, .head = zero.SerializeAsString()}));
  peer->TakeFrames();
  EXPECT_EQ(seen, std::vector<int>({3, 1, 1}));
}

TEST_P(ServerSessionTest, EndsACallWhoseMetadataTheClientCannotTake) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  server.service().on_echo = [](auto call) {
    call.context().trailing_metadata().Add("large", std::string(20'000, 'x'));
    std::move(call).Finish(absl::OkStatus());
  };
  peer->Send(EncodeRequest({.method = kEchoId}));
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status().status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(answer->status().status.message()), testing::HasSubstr("limit is 16384"));
}

TEST_P(ServerSessionTest, AnswersWithTheRequestsPriority) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  for (const auto& [sent, answered] : {std::pair{1, 1}, {2, 2}, {3, 0}}) {
    for (const uint64_t method : {kEchoId, kFailId, uint64_t{1}}) {
      const uint32_t slot = static_cast<uint32_t>(sent) + (method == kEchoId   ? 10
                                                           : method == kFailId ? 20
                                                                               : 30);
      std::string request = EncodeRequest({.slot = slot, .method = method});
      request[5] = static_cast<char>(sent);
      peer->Send(request);
      const std::optional<ReceivedFrame> answer = peer->TakeFrame();
      ASSERT_TRUE(answer.has_value());
      EXPECT_EQ(answer->header.priority(), answered);
    }
  }
}

TEST_P(ServerSessionTest, TakesARequestInFragments) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const std::string message = EncodedText("hello");
  peer->Send(EncodeRequest({.slot = 2,
                            .method = kEchoId,
                            .flags = kMore,
                            .head = LengthHead(message.size()),
                            .message = message.substr(0, 2)}));
  peer->Send(EncodeRequest({.slot = 1, .method = kEchoId, .message = EncodedText("between")}));
  EXPECT_EQ(peer->TakeFrame()->message(), EncodedText("between"));
  peer->Send(Fragment(2, message.substr(2, 3), kMore) + Fragment(2, message.substr(5), kEndStream));
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->header.stream, StreamId::Make(2, 0));
  EXPECT_EQ(answer->message(), message);
  EXPECT_EQ(server.shared().request_budget.used(), 0u);
}

// Not only at the call's end, or the connection's.
TEST_P(ServerSessionTest, FreesWhatItHeldForReceivingAtTheRequestsEnd) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const size_t before = server.loop().blocks().pool().stats().used_bytes;
  test::Text request;
  request.set_text(std::string(200'000, 'x'));
  const std::string message = request.SerializeAsString();
  peer->Send(EncodeRequest({.slot = 2,
                            .method = kWaitId,
                            .flags = kMore,
                            .head = LengthHead(message.size()),
                            .message = message.substr(0, 60'000)}));
  peer->Send(Fragment(2, message.substr(60'000, 60'000), kMore));
  EXPECT_GE(server.loop().blocks().pool().stats().used_bytes, before + message.size());
  peer->Send(Fragment(2, message.substr(120'000, 60'000), kMore) +
             Fragment(2, message.substr(180'000), kEndStream));
  // The handler has it, the call goes on, and so does the connection.
  ASSERT_EQ(server.service().held.size(), 1u);
  EXPECT_EQ(server.service().held.front().request().text().size(), 200'000u);
  EXPECT_EQ(server.loop().blocks().pool().stats().used_bytes, before);
}

TEST_P(ServerSessionTest, SendsALargeReplyInFragments) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const std::string text(150'000, 'x');
  server.service().on_echo = [&](auto call) {
    call.reply().set_text(text);
    std::move(call).Finish(absl::OkStatus());
  };
  peer->Send(EncodeRequest({.method = kEchoId}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(3));
  EXPECT_EQ(frames[0].header.type, FrameType::kResponse);
  EXPECT_EQ(frames[0].header.flags, kMore);
  EXPECT_EQ(frames[0].head(), *EncodeResponseHead({}, {}, EncodedText(text).size(), 16384));
  EXPECT_EQ(frames[0].message().size(), 65'536u);
  EXPECT_EQ(frames[1].header.type, FrameType::kMessage);
  EXPECT_EQ(frames[1].header.flags, kMore);
  EXPECT_EQ(frames[1].message().size(), 65'536u);
  EXPECT_EQ(frames[2].header.flags, kEndStream);
  EXPECT_EQ(frames[0].message() + frames[1].message() + frames[2].message(), EncodedText(text));
}

TEST_P(ServerSessionTest, RefusesAReplyThatTheClientDoesNotTake) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet({.max_message = 65'536});
  server.service().on_echo = [](auto call) {
    call.reply().set_text(std::string(65'536, 'x'));
    std::move(call).Finish(absl::OkStatus());
  };
  peer->Send(EncodeRequest({.method = kEchoId}));
  const std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  ExpectStatus(frames[0], StatusCode::kResourceExhausted,
               "the reply of ferry.test.Echo/Echo is 65540 bytes, the client's limit is 65536", false);
}

TEST_P(ServerSessionTest, UsesASlotAgain) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  for (uint32_t call = 0; call < 5000; ++call) {
    const uint32_t generation = call % StreamId::kGenerations;
    peer->Send(EncodeRequest({.generation = generation, .method = kEchoId, .message = EncodedText("x")}));
    const std::optional<ReceivedFrame> answer = peer->TakeFrame();
    ASSERT_TRUE(answer.has_value()) << "call " << call;
    ASSERT_EQ(answer->header.stream, StreamId::Make(1, generation));
  }
}

TEST_P(ServerSessionTest, EndsACallWhoseHandlerDropsIt) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  peer->Send(EncodeRequest({.method = kWaitId}));
  server.Settle();
  server.service().held.clear();
  const std::optional<ReceivedFrame> answer = peer->TakeFrame();
  ASSERT_TRUE(answer.has_value());
  ExpectStatus(*answer, StatusCode::kInternal, "the handler dropped the call without finishing it", false);
}

TEST_P(ServerSessionTest, ClearsRecycledCalls) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  std::vector<const void*> calls;
  server.service().on_echo = [&](auto call) {
    calls.push_back(&call.request());
    EXPECT_TRUE(call.reply().text().empty());
    EXPECT_TRUE(call.context().initial_metadata().empty());
    EXPECT_EQ(call.context().time_left(), absl::InfiniteDuration());
    EXPECT_FALSE(call.context().cancelled());
    call.reply().set_text("something");
    call.context().initial_metadata().Add("a", "b");
    std::move(call).Finish(absl::OkStatus());
  };
  for (uint32_t generation = 0; generation < 3; ++generation) {
    peer->Send(EncodeRequest({.generation = generation, .method = kEchoId, .message = EncodedText("x")}));
    ASSERT_TRUE(peer->TakeFrame().has_value());
  }
  EXPECT_EQ(calls[0], calls[1]);
  EXPECT_EQ(calls[0], calls[2]);
}

// ---------------------------------------------------------------- Cancelling

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

// ---------------------------------------------------------------- The executor, and the loop

TEST_P(ServerSessionTest, RefusesWhatTheExecutorHasNoRoomFor) {
  SessionServer::Options options = Options();
  options.executor_capacity = 2;
  SessionServer server(options);
  server.hold_executor = true;
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  std::string requests;
  for (uint32_t slot = 1; slot <= 3; ++slot) requests += EncodeRequest({.slot = slot, .method = kEchoId});
  peer->Send(requests);
  std::vector<ReceivedFrame> frames = peer->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.stream.slot(), 3u);
  ExpectStatus(frames[0], StatusCode::kResourceExhausted,
               "the server's queue is full: 2 calls wait, which is the limit", true);
  server.hold_executor = false;
  frames = peer->TakeFrames();
  EXPECT_THAT(frames, SizeIs(2));
}

TEST(ServerSessionInlineTest, MovesASlowInlineMethodToTheExecutorAndBack) {
  SessionServer server(
      {.inline_guard = {.budget = absl::Microseconds(50), .tolerance = 4, .time_away = absl::Seconds(10)},
       .echo_inline = true});
  server.hold_executor = true;
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  server.service().on_echo = [&](auto call) {
    server.clock().Advance(absl::Microseconds(51));
    std::move(call).Finish(absl::OkStatus());
  };
  uint32_t generation = 0;
  const auto runs_inline = [&] {
    peer->Send(EncodeRequest({.generation = generation++, .method = kEchoId}));
    const bool answered = peer->TakeFrame().has_value();
    server.executor().RunAll();
    EXPECT_EQ(peer->TakeFrame().has_value(), !answered);
    return answered;
  };
  // One that makes the session time calls, four that overstay.
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(runs_inline()) << i;
  EXPECT_FALSE(runs_inline());
  ASSERT_THAT(server.log(), SizeIs(1));
  EXPECT_EQ(server.log()[0],
            "method ferry.test.Echo/Echo repeatedly took longer than 50us on an event loop and runs on the "
            "executor "
            "for 10s");
  server.Advance(absl::Seconds(10));
  EXPECT_TRUE(runs_inline());
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

// ---------------------------------------------------------------- Slots and methods

TEST_P(ServerSessionTest, TakesCallsOnAnySlot) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  // Not in order, and on both sides of where a session's memory for slots ends.
  const uint32_t kSlots[] = {4095, 1, 63, 64, 65, 127, 128, 129, 1000};
  std::string requests;
  for (const uint32_t slot : kSlots) {
    requests +=
        EncodeRequest({.slot = slot, .method = kWaitId, .message = EncodedText(absl::StrCat("slot ", slot))});
  }
  peer->Send(requests);
  EXPECT_THAT(peer->TakeFrames(), SizeIs(0));
  // One of them, and one of another generation, which is no call.
  peer->Send(Cancel(64, 0) + Cancel(65, 1));
  ASSERT_THAT(server.service().held, SizeIs(std::size(kSlots)));
  for (size_t i = 0; i < std::size(kSlots); ++i) {
    const bool cancelled = server.service().held.front().context().cancelled();
    EXPECT_EQ(cancelled, kSlots[i] == 64);
    server.service().held.front().reply().set_text(absl::StrCat("answer ", kSlots[i]));
    server.service().FinishHeld(absl::OkStatus());
    const std::optional<ReceivedFrame> answer = peer->TakeFrame();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->header.stream, StreamId::Make(kSlots[i], 0));
    if (cancelled) continue;
    EXPECT_EQ(answer->message(), EncodedText(absl::StrCat("answer ", kSlots[i])));
  }
  // All are free again.
  for (const uint32_t slot : kSlots) {
    peer->Send(EncodeRequest({.slot = slot, .generation = 1, .method = kEchoId}));
    EXPECT_EQ(peer->TakeFrame()->header.stream, StreamId::Make(slot, 1));
  }
}

TEST_P(ServerSessionTest, EndsAConnectionThatCancelsOnASlotNeverUsed) {
  for (const uint32_t slot : {2u, 64u, 4095u}) {
    SCOPED_TRACE(slot);
    SessionServer server(Options());
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(EncodeRequest({.slot = 1, .method = kEchoId}));
    ASSERT_TRUE(peer->TakeFrame().has_value());
    peer->Send(Cancel(slot, 0));
    const std::optional<ReceivedFrame> why = peer->TakeFrame();
    ASSERT_TRUE(why.has_value());
    EXPECT_EQ(std::string(why->status().status.message()),
              absl::StrCat("CANCEL frame is on slot ", slot, ", which was never used"));
  }
}

TEST_P(ServerSessionTest, FindsEachMethodWhateverWasAskedForBefore) {
  SessionServer server(Options());
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  const uint64_t kUnknown = 1;
  const uint64_t kOtherUnknown = 0;
  const uint64_t kMethods[] = {kOtherUnknown, kEchoId,  kFailId, kEchoId,       kUnknown,      kEchoId,
                               kUnknown,      kUnknown, kFailId, kFailId,       kOtherUnknown, kUnknown,
                               kOtherUnknown, kEchoId,  kEchoId, kOtherUnknown, kFailId,       kUnknown};
  for (const bool together : {false, true}) {
    std::vector<ReceivedFrame> answers;
    std::string requests;
    for (uint32_t i = 0; i < std::size(kMethods); ++i) {
      requests += EncodeRequest(
          {.slot = i + 1, .generation = together, .method = kMethods[i], .message = EncodedText("7")});
      if (together) continue;
      peer->Send(std::exchange(requests, ""));
      std::vector<ReceivedFrame> frames = peer->TakeFrames();
      ASSERT_THAT(frames, SizeIs(1));
      answers.push_back(std::move(frames[0]));
    }
    if (together) {
      peer->Send(requests);
      answers.resize(std::size(kMethods));
      std::vector<ReceivedFrame> frames = peer->TakeFrames();
      ASSERT_THAT(frames, SizeIs(std::size(kMethods)));
      // Refusals come before what the executor runs.
      for (ReceivedFrame& frame : frames) answers[frame.header.stream.slot() - 1] = std::move(frame);
    }
    for (size_t i = 0; i < answers.size(); ++i) {
      SCOPED_TRACE(absl::StrCat("request ", i, ", together ", together));
      if (kMethods[i] == kEchoId) {
        EXPECT_EQ(answers[i].header.type, FrameType::kResponse);
        continue;
      }
      const WireStatus told = answers[i].status();
      EXPECT_EQ(told.status.code(),
                kMethods[i] == kFailId ? StatusCode::kNotFound : StatusCode::kUnimplemented);
      EXPECT_EQ(told.not_executed, kMethods[i] != kFailId);
    }
  }
}

// ---------------------------------------------------------------- Other threads

// Finishes calls on a thread of their own.
std::thread FinishElsewhere(std::vector<test::ScriptedEcho::Call> calls) {
  return std::thread([calls = std::move(calls)]() mutable {
    for (test::ScriptedEcho::Call& call : calls) std::move(call).Finish(absl::OkStatus());
  });
}

// Calls that the service holds, in two halves.
std::pair<std::vector<test::ScriptedEcho::Call>, std::vector<test::ScriptedEcho::Call>> TakeHalves(
    SessionServer& server) {
  std::pair<std::vector<test::ScriptedEcho::Call>, std::vector<test::ScriptedEcho::Call>> halves;
  for (test::ScriptedEcho::Call& call : server.service().held) {
    (halves.first.size() <= halves.second.size() ? halves.first : halves.second).push_back(std::move(call));
  }
  server.service().held.clear();
  return halves;
}

std::string Requests(uint32_t count, uint32_t generation = 0) {
  std::string requests;
  for (uint32_t slot = 1; slot <= count; ++slot) {
    requests += EncodeRequest({.slot = slot, .generation = generation, .method = kWaitId});
  }
  return requests;
}

TEST(ServerSessionThreadsTest, LivesUntilItsLastCallHasEndedOnWhateverThread) {
  for (int round = 0; round < 50; ++round) {
    SessionServer server;
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(Requests(40));
    server.Settle();
    ASSERT_THAT(server.service().held, SizeIs(40));
    const std::weak_ptr<ServerSession> session = server.session().weak_from_this();
    auto [one, other] = TakeHalves(server);
    test::ScriptedEcho::Call last = std::move(one.back());
    one.pop_back();
    std::thread threads[] = {FinishElsewhere(std::move(one)), FinishElsewhere(std::move(other))};
    server.InLoop([&] { server.session().Close(absl::CancelledError("enough")); });
    EXPECT_EQ(server.open_sessions(), 0u);
    for (std::thread& thread : threads) thread.join();
    server.Settle();
    EXPECT_FALSE(session.expired());
    EXPECT_TRUE(last.context().cancelled());
    if (round % 2 == 0) {
      std::thread([&] { std::move(last).Finish(absl::OkStatus()); }).join();
    } else {
      server.InLoop([&] { std::move(last).Finish(absl::OkStatus()); });
    }
    server.Settle();
    EXPECT_TRUE(session.expired());
  }
}

TEST(ServerSessionThreadsTest, EndsWhenAllCallsEndWhileItCloses) {
  for (int round = 0; round < 200; ++round) {
    SessionServer server;
    const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
    peer->Send(Requests(6));
    server.Settle();
    const std::weak_ptr<ServerSession> session = server.session().weak_from_this();
    auto [one, other] = TakeHalves(server);
    std::thread threads[] = {FinishElsewhere(std::move(one)), FinishElsewhere(std::move(other))};
    // By force; after the last answer; and when the peer has said that nothing comes any more.
    if (round % 3 == 0) server.InLoop([&] { server.session().Close(absl::CancelledError("enough")); });
    if (round % 3 == 1) server.InLoop([&] { server.session().Drain(); });
    if (round % 3 == 2) peer->FinishWriting();
    for (std::thread& thread : threads) thread.join();
    server.Settle();
    if (round % 3 != 0) {
      size_t answers = 0;
      for (const ReceivedFrame& frame : peer->TakeFrames()) {
        answers += frame.header.type == FrameType::kResponse;
      }
      EXPECT_EQ(answers, 6u);
      EXPECT_TRUE(peer->ended());
      peer->Close();
      server.Settle();
    }
    EXPECT_EQ(server.open_sessions(), 0u);
    EXPECT_TRUE(session.expired());
  }
}

TEST(ServerSessionThreadsTest, ACancelMayComeWhileItsCallEnds) {
  constexpr uint32_t kCalls = 20;
  SessionServer server;
  const std::unique_ptr<RawPeer> peer = server.ConnectAndGreet();
  for (uint32_t generation = 0; generation < 200; ++generation) {
    peer->Send(Requests(kCalls, generation));
    server.Settle();
    ASSERT_THAT(server.service().held, SizeIs(kCalls));
    for (const test::ScriptedEcho::Call& call : server.service().held) {
      ASSERT_FALSE(call.context().cancelled()) << "of the call that had the object before";
    }
    auto [one, other] = TakeHalves(server);
    std::thread threads[] = {FinishElsewhere(std::move(one)), FinishElsewhere(std::move(other))};
    std::string cancels;
    for (uint32_t slot = 1; slot <= kCalls; ++slot) cancels += Cancel(slot, generation);
    peer->Send(cancels);
    for (std::thread& thread : threads) thread.join();
    // Each has one end, whichever it is.
    std::vector<int> ends(kCalls + 1);
    for (const ReceivedFrame& frame : peer->TakeFrames()) {
      ASSERT_LE(frame.header.stream.slot(), kCalls);
      EXPECT_EQ(frame.header.stream.generation(), generation);
      if (frame.header.type == FrameType::kStatus) {
        EXPECT_EQ(frame.status().status.code(), StatusCode::kCancelled);
      }
      ++ends[frame.header.stream.slot()];
    }
    for (uint32_t slot = 1; slot <= kCalls; ++slot) EXPECT_EQ(ends[slot], 1) << slot;
  }
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
