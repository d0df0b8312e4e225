// How an endpoint connects, and what becomes of its calls when it cannot.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/endpoint_fixture.h"
#include "tests/testing/random.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::Preface;
using test::RawPeer;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using transport::EventLoop;
using transport::FrameType;

// ---------------------------------------------------------------- Threads

TEST_F(EndpointTest, KeepsItsSessionForTheLoopWhileThatAloneStartsCalls) {
  Create();
  uint32_t generation = 0;
  const auto call_on_loop = [&] {
    TestCall& call = NewCall();
    InLoop([&] { Start(call); });
    RawPeer& peer = generation == 0 ? Greet() : Peer();
    peer.Send(Response(1, generation++));
    EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
  };
  const auto call_elsewhere = [&] {
    TestCall& call = StartAndSettle(NewCall());
    Peer().Send(Response(1, generation++));
    EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
  };
  call_on_loop();
  EXPECT_FALSE(endpoint_->has_calls());
  for (int i = 0; i < 1100; ++i) call_on_loop();
  // What the loop keeps for itself, nobody else knows of.
  EXPECT_TRUE(endpoint_->has_calls());
  InLoop([&] { EXPECT_FALSE(endpoint_->has_calls()); });
  // Who comes for the session gets it.
  call_elsewhere();
  EXPECT_FALSE(endpoint_->has_calls());
  // It takes longer next time, and does not happen while others call too.
  for (int i = 0; i < 2000; ++i) call_on_loop();
  EXPECT_FALSE(endpoint_->has_calls());
  for (int i = 0; i < 10'000; ++i) {
    call_on_loop();
    if (i % 1000 == 0) call_elsewhere();
  }
  EXPECT_FALSE(endpoint_->has_calls());
}

// ---------------------------------------------------------------- Connecting

TEST_F(EndpointTest, ConnectsWhenACallNeedsIt) {
  Create();
  loop_->RunUntilIdle();
  EXPECT_THAT(script_.attempts, SizeIs(0));
  TestCall& call = StartAndSettle(NewCall());
  EXPECT_THAT(script_.attempts, SizeIs(1));
  RawPeer& peer = Greet();
  EXPECT_EQ(peer.TakeFrame()->header.type, FrameType::kRequest);
  peer.Send(Response(1));
  EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, FailsCallsThatDoNotWaitWhenItCannotConnect) {
  Create();
  script_.failures = 1;
  TestCall& call = StartAndSettle(NewCall());
  EXPECT_EQ(call.status, absl::UnavailableError("nobody listens there"));
  // While it waits to try again, calls fail with what is known.
  TestCall& next = StartAndSettle(NewCall());
  EXPECT_EQ(next.status, absl::UnavailableError("nobody listens there"));
  EXPECT_THAT(script_.attempts, SizeIs(1));
}

TEST_F(EndpointTest, TriesAgainForCallsThatWait) {
  Create();
  script_.failures = 3;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true));
  for (int i = 0; i < 3; ++i) Advance(absl::Seconds(1));
  EXPECT_THAT(script_.attempts, SizeIs(4));
  EXPECT_FALSE(call.ended);
  RawPeer& peer = Greet();
  EXPECT_EQ(peer.TakeFrame()->header.type, FrameType::kRequest);
  peer.Send(Response(1));
  EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, DoesNotTryAgainForNobody) {
  Create();
  script_.failures = 1;
  StartAndSettle(NewCall());
  Advance(absl::Hours(1));
  EXPECT_THAT(script_.attempts, SizeIs(1));
}

TEST_F(EndpointTest, WaitsARandomTimeUpToABoundThatDoubles) {
  test::Random random;
  Create({.min_backoff = absl::Milliseconds(100),
          .max_backoff = absl::Milliseconds(1000),
          .seed = random.Number(1, 1u << 30)});
  script_.failures = 1000;
  StartAndSettle(NewCall(/*wait_for_ready=*/true));
  std::vector<absl::Duration> waits;
  while (script_.attempts.size() < 400) {
    const size_t before = script_.attempts.size();
    const transport::Instant failed = script_.attempts.back();
    while (script_.attempts.size() == before) Advance(absl::Milliseconds(1));
    waits.push_back(script_.attempts.back() - failed);
  }
  const absl::Duration slack = absl::Milliseconds(1);
  EXPECT_LE(waits[0], absl::Milliseconds(100) + slack);
  EXPECT_LE(waits[1], absl::Milliseconds(200) + slack);
  EXPECT_LE(waits[2], absl::Milliseconds(400) + slack);
  absl::Duration sum;
  absl::Duration least = absl::InfiniteDuration();
  for (size_t i = 4; i < waits.size(); ++i) {
    EXPECT_LE(waits[i], absl::Milliseconds(1000) + slack);
    sum += waits[i];
    least = std::min(least, waits[i]);
  }
  // Full jitter: anything from 0 to the bound. Of 395 uniform draws the mean is within 6 sigma of half the
  // bound.
  EXPECT_NEAR(absl::ToDoubleMilliseconds(sum) / static_cast<double>(waits.size() - 4), 500, 90);
  EXPECT_LE(least, absl::Milliseconds(60));
}

TEST_F(EndpointTest, WaitsTheSameTimesForTheSameSeed) {
  std::vector<transport::Instant> attempts[2];
  for (auto& run : attempts) {
    Create({.seed = 42});
    script_ = {.failures = 5};
    const transport::Instant start = clock_.Now();
    StartAndSettle(NewCall(/*wait_for_ready=*/true));
    while (script_.attempts.size() < 6) Advance(absl::Milliseconds(1));
    for (const transport::Instant at : script_.attempts) run.push_back({at.nanos - start.nanos});
    Close();
    peers_.clear();
  }
  EXPECT_EQ(attempts[0], attempts[1]);
}

TEST_F(EndpointTest, TakesAServerThatNeverAnswersForAFailureToConnect) {
  Create();
  TestCall& call = StartAndSettle(NewCall());
  Greet().Close();
  loop_->RunUntilIdle();
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  StartAndSettle(NewCall());
  EXPECT_THAT(script_.attempts, SizeIs(1));
}

TEST_F(EndpointTest, ConnectsAtOnceAfterAConnectionIsLost) {
  Create();
  StartAndSettle(NewCall());
  Greet().Send(Response(1));
  TestCall& call = StartAndSettle(NewCall());
  Peer().Close();
  loop_->RunUntilIdle();
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(script_.attempts, SizeIs(1)) << "no call needs another yet";
  TestCall& next = StartAndSettle(NewCall());
  EXPECT_THAT(script_.attempts, SizeIs(2));
  Greet(1).Send(Response(1));
  EXPECT_TRUE(next.status.ok()) << next.status;
}

TEST_F(EndpointTest, ConnectsAtOnceAfterAConnectionThatLasted) {
  for (const bool lasts : {false, true}) {
    SCOPED_TRACE(lasts);
    Create();
    script_ = {};
    peers_.clear();
    StartAndSettle(NewCall());
    Greet();
    // It carries a call that the server has not answered.
    Advance(Endpoint::kLasting - absl::Milliseconds(lasts ? 0 : 1));
    Peer().Close();
    loop_->RunUntilIdle();
    StartAndSettle(NewCall());
    EXPECT_THAT(script_.attempts, SizeIs(lasts ? 2 : 1));
    Close();
  }
}

TEST_F(EndpointTest, TakesAPeerThatIsNoServerForAFailureToConnect) {
  Create();
  TestCall& call = StartAndSettle(NewCall());
  Peer().Send("HTTP/1.1 400 Bad Request\r\n");
  loop_->RunUntilIdle();
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("peer speaks HTTP, not Ferry"));
  TestCall& next = StartAndSettle(NewCall());
  EXPECT_EQ(next.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(script_.attempts, SizeIs(1));
}

// A ByteStream that does something on the way to being watched: between a connection's preface and its
// SETTINGS.
class InterruptedStream final : public transport::ByteStream {
 public:
  InterruptedStream(std::unique_ptr<ByteStream> stream, std::function<void()> interrupt)
      : stream_(std::move(stream)), interrupt_(std::move(interrupt)) {}

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override {
    interrupt_();
    return stream_->Watch(loop, handler);
  }
  transport::IoResult Read(absl::Span<const iovec> parts) override { return stream_->Read(parts); }
  transport::IoResult Write(absl::Span<const iovec> parts) override { return stream_->Write(parts); }
  void FinishWriting() override { stream_->FinishWriting(); }
  void Close() override { stream_->Close(); }
  std::string peer() const override { return stream_->peer(); }

 private:
  const std::unique_ptr<ByteStream> stream_;
  const std::function<void()> interrupt_;
};

TEST_F(EndpointTest, SendsSettingsBeforeRequestsOfOtherThreads) {
  Create();
  TestCall& first = NewCall();
  TestCall& other = NewCall();
  script_.wrap = [&](std::unique_ptr<transport::ByteStream> stream) {
    return std::make_unique<InterruptedStream>(std::move(stream), [&] {
      std::thread([&] { endpoint_->Start(other, other.request, other.request.ByteSizeLong()); }).join();
    });
  };
  StartAndSettle(first);
  RawPeer& peer = Greet();
  EXPECT_THAT(peer.TakeFrames(), SizeIs(2));
}

// ---------------------------------------------------------------- The server's SETTINGS

TEST_F(EndpointTest, HoldsRequestsUntilTheServersSettingsUnlessTheMethodIsIdempotent) {
  Create();
  StartAndSettle(NewCallOf("once"));
  TestCall& idempotent = NewCall();
  idempotent.method = &test::kIdempotentEchoMethod;
  StartAndSettle(idempotent);
  TestCall& later = NewCall();
  later.method = &test::kIdempotentEchoMethod;
  InLoop([&] { Start(later); });
  RawPeer& peer = Peer();
  EXPECT_TRUE(peer.TakePreface());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(3)) << "SETTINGS and two REQUESTs";
  EXPECT_TRUE(endpoint_->has_calls());
  peer.Send(Preface() + test::EncodeSettingsFrame());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1));
  peer.Send(Response(1) + Response(2) + Response(3));
  for (const TestCall& call : calls_) EXPECT_TRUE(call.status.ok()) << call.status;
  EXPECT_FALSE(endpoint_->has_calls());
}

TEST_F(EndpointTest, SendsAgainWhatAServerThatSaidNothingMayNotHaveRead) {
  Create();
  TestCall& once = StartAndSettle(NewCallOf("once"));
  TestCall& idempotent = NewCallOf("idempotent");
  idempotent.method = &test::kIdempotentEchoMethod;
  StartAndSettle(idempotent);
  Peer().Close();
  loop_->RunUntilIdle();
  EXPECT_FALSE(once.ended);
  EXPECT_FALSE(idempotent.ended);
  EXPECT_THAT(script_.attempts, SizeIs(2)) << "the first time in a row it does not wait";
  RawPeer& peer = Greet(1);
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("idempotent", "once"));
  peer.Send(Response(1) + Response(2));
  EXPECT_TRUE(once.status.ok()) << once.status;
  EXPECT_TRUE(idempotent.status.ok()) << idempotent.status;
}

TEST_F(EndpointTest, EndsCallsThatAreTurnedAwayFiveTimes) {
  for (const bool drains : {false, true}) {
    SCOPED_TRACE(drains);
    script_ = {};
    Create();
    TestCall& call = StartAndSettle(NewCallOf("once"));
    TestCall& idempotent = NewCallOf("idempotent");
    idempotent.method = &test::kIdempotentEchoMethod;
    StartAndSettle(idempotent);
    TestCall& waits = StartAndSettle(NewCallOf("waits", /*wait_for_ready=*/true));
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_FALSE(call.ended) << i;
      EXPECT_FALSE(idempotent.ended) << i;
      while (script_.attempts.size() <= i) Advance(absl::Milliseconds(1));
      if (drains) {
        Greet(i).Send(Drain(0));
      } else {
        Peer(i).FinishWriting();
      }
      loop_->RunUntilIdle();
    }
    EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(call.status.message()), HasSubstr("not executed"));
    EXPECT_THAT(std::string(call.status.message()), HasSubstr("turned away 5 times, limit is 5"));
    EXPECT_EQ(idempotent.status.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(idempotent.status.message()), HasSubstr("turned away 5 times, limit is 5"));
    EXPECT_FALSE(waits.ended);
    Close();
    peers_.clear();
  }
}

TEST_F(EndpointTest, AServerThatTurnsAllAwayIsAsOneThatCannotBeConnectedTo) {
  Create({.seed = 7});
  TestCall& waits = StartAndSettle(NewCallOf("waits", /*wait_for_ready=*/true));
  const auto turn_away = [this](size_t i) {
    while (script_.attempts.size() <= i) Advance(absl::Milliseconds(1));
    Peer(i).FinishWriting();
    loop_->RunUntilIdle();
  };
  for (size_t i = 0; i < 4; ++i) turn_away(i);
  // It has been turned away once, the endpoint five times.
  TestCall& late = StartAndSettle(NewCallOf("late"));
  EXPECT_FALSE(late.ended);
  turn_away(4);
  EXPECT_EQ(late.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(late.status.message()), HasSubstr("turned away 1 time"));
  // The next attempt is seconds away.
  TestCall& later = StartAndSettle(NewCallOf("later"));
  EXPECT_EQ(later.status.code(), StatusCode::kUnavailable);
  EXPECT_FALSE(waits.ended);
}

TEST_F(EndpointTest, WaitsLongerEachTimeItIsTurnedAway) {
  Create({.min_backoff = absl::Milliseconds(100), .max_backoff = absl::Seconds(1), .seed = 7});
  TestCall& call = StartAndSettle(NewCallOf("waits", /*wait_for_ready=*/true));
  for (size_t i = 0; i < 30; ++i) {
    while (script_.attempts.size() <= i) Advance(absl::Milliseconds(1));
    Peer(i).Close();
    loop_->RunUntilIdle();
  }
  EXPECT_FALSE(call.ended);
  EXPECT_EQ(script_.attempts[1], script_.attempts[0]);
  EXPECT_LE(script_.attempts[2] - script_.attempts[1], absl::Milliseconds(101));
  // Of 26 draws from 0 to 1 s.
  EXPECT_GE(script_.attempts[29] - script_.attempts[3], absl::Seconds(5));
}

}  // namespace
}  // namespace ferry
