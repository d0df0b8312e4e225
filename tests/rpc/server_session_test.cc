// How a server's session answers the calls of a client that keeps to the protocol.
#include "ferry/rpc/server_session.h"

#include <cstddef>
#include <cstdint>
#include <iterator>
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

INSTANTIATE_TEST_SUITE_P(Slices, ServerSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

// ---------------------------------------------------------------- Calls and answers

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

}  // namespace
}  // namespace ferry
