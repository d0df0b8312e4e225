// Where a server's session runs its calls, and calls that end on other threads.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/server_session.h"
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
using test::kWaitId;
using test::RawPeer;
using test::ReceivedFrame;
using test::SessionServer;
using testing::SizeIs;
using transport::FrameType;

INSTANTIATE_TEST_SUITE_P(Slices, ServerSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

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

}  // namespace
}  // namespace ferry
