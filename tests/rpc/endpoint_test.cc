// How calls wait for connections and slots, and what becomes of them when there are none.
#include "ferry/rpc/endpoint.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/message_queue.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/plain_status.h"
#include "tests/testing/random.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeFrame;
using test::EncodeHeadFrame;
using test::Plain;
using test::Preface;
using test::RawPeer;
using test::ReceivedFrame;
using test::ScriptedConnector;
using test::TestCall;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::SizeIs;
using transport::EventLoop;
using transport::FrameType;
using transport::kEndStream;
using transport::StreamId;

std::string Response(uint32_t slot, uint32_t generation = 0) {
  return EncodeFrame(
      {.type = FrameType::kResponse, .flags = kEndStream, .stream = StreamId::Make(slot, generation)});
}

std::string Drain(uint64_t last_ordinal) {
  wire::DrainHead head;
  head.set_last_ordinal(last_ordinal);
  return EncodeHeadFrame(FrameType::kDrain, head.SerializeAsString());
}

// What the requests among `frames` say.
std::vector<std::string> TextsOf(const std::vector<ReceivedFrame>& frames) {
  std::vector<std::string> texts;
  for (const ReceivedFrame& frame : frames) {
    if (frame.header.type != FrameType::kRequest) continue;
    test::Text text;
    EXPECT_TRUE(text.ParseFromString(frame.message()));
    texts.push_back(text.text());
  }
  return texts;
}

class EndpointTest : public testing::Test {
 protected:
  EndpointTest() {
    absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }
  ~EndpointTest() override { Close(); }

  void Create(const Endpoint::Options& options = {}) {
    endpoint_ = Endpoint::Create(options, *loop_, std::make_unique<ScriptedConnector>(script_));
  }
  void Close() {
    if (endpoint_ == nullptr) return;
    InLoop([&] { endpoint_->Close(absl::CancelledError("the test ends")); });
  }

  TestCall& NewCall(bool wait_for_ready = false, transport::Instant until = transport::Instant::Infinite()) {
    return NewCallOf("hello", wait_for_ready, until);
  }
  TestCall& NewCallOf(const std::string& text, bool wait_for_ready = false,
                      transport::Instant until = transport::Instant::Infinite()) {
    TestCall& call = calls_.emplace_back(text, until);
    call.wait_for_ready = wait_for_ready;
    return call;
  }
  TestCall& Start(TestCall& call) {
    endpoint_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    return call;
  }
  TestCall& StartAndSettle(TestCall& call) {
    Start(call);
    loop_->RunUntilIdle();
    return call;
  }

  // The server's end of the `index`th connection.
  RawPeer& Peer(size_t index = 0) {
    while (peers_.size() < script_.far_ends.size()) {
      peers_.push_back(std::make_unique<RawPeer>(std::move(script_.far_ends[peers_.size()]),
                                                 [this] { loop_->RunUntilIdle(); }));
    }
    return *peers_.at(index);
  }
  // The same, after a server has introduced itself and taken what the client says of itself.
  RawPeer& Greet(size_t index = 0, const WireSettings& settings = {}) {
    RawPeer& peer = Peer(index);
    peer.Send(Preface() + test::EncodeSettingsFrame(settings));
    EXPECT_TRUE(peer.TakePreface());
    const std::optional<ReceivedFrame> first = peer.TakeFrame();
    EXPECT_TRUE(first.has_value() && first->header.type == FrameType::kSettings);
    return peer;
  }

  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  transport::Instant In(absl::Duration time) { return clock_.Now() + time; }

  transport::ManualClock clock_;
  std::deque<TestCall> calls_;
  ScriptedConnector::Script script_;
  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<Endpoint> endpoint_;
  std::vector<std::unique_ptr<RawPeer>> peers_;
};

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

// ---------------------------------------------------------------- DRAIN

TEST_F(EndpointTest, SendsCallsBeyondDrainAgainBeforeOthers) {
  Create();
  TestCall& first = StartAndSettle(NewCallOf("first"));
  RawPeer& peer = Greet(0, {.max_streams = 5});
  for (const char* text : {"second", "third", "fourth", "waits"}) StartAndSettle(NewCallOf(text));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("first", "second", "third", "fourth"));
  // The slots' order is not the calls'.
  peer.Send(Response(2));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("waits"));
  StartAndSettle(NewCallOf("later"));
  peer.Send(Drain(2));
  RawPeer& next = Greet(1);
  EXPECT_THAT(TextsOf(next.TakeFrames()), ElementsAre("third", "fourth", "waits", "later"));
  next.Send(Response(1) + Response(2) + Response(3) + Response(4));
  EXPECT_FALSE(first.ended);
  peer.Send(Response(1));
  for (const TestCall& call : calls_) EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, SendsTheSameRequestAgain) {
  // In every way that a request is kept: a copy of few bytes, a block, the caller's message; one that waited.
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  std::vector<std::string> texts;
  for (const size_t size : {0u, 1u, 100u, 4000u, 5000u, 60'000u}) {
    for (const bool lasts : {false, true}) {
      TestCall& call = NewCallOf(std::string(size, static_cast<char>('a' + texts.size())));
      if (lasts) call.lasting_request = &call.request;
      texts.push_back(call.request.text());
      StartAndSettle(call);
      if (!lasts) call.request.Clear();
    }
  }
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAreArray(texts));
  for (size_t i = 1; i < 4; ++i) {
    Peer(i - 1).Send(Drain(i == 1 ? 1 : 0));
    while (script_.attempts.size() <= i) Advance(absl::Milliseconds(1));
    EXPECT_THAT(TextsOf(Greet(i).TakeFrames()), ElementsAreArray(texts));
  }
}

TEST_F(EndpointTest, SendsAMessageInFragmentsAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  TestCall& large = NewCallOf(std::string(200'000, 'x'));
  large.head = *EncodeRequestHead({}, large.request.ByteSizeLong(), 65'535);
  StartAndSettle(large);
  large.request.Clear();
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  EXPECT_THAT(frames, SizeIs(4));
  peer.Send(Drain(1));
  const std::vector<ReceivedFrame> again = Greet(1).TakeFrames();
  ASSERT_THAT(again, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(again[i].message(), frames[i].message());
}

constexpr MethodDescriptor kWatchMethod{
    .full_name = "ferry.test.Echo/Watch", .id = MethodId("ferry.test.Echo/Watch"), .server_streaming = true};
constexpr MethodDescriptor kChatMethod{.full_name = "ferry.test.Echo/Chat",
                                       .id = MethodId("ferry.test.Echo/Chat"),
                                       .client_streaming = true,
                                       .server_streaming = true};

TEST_F(EndpointTest, SendsAStreamAgainUnlessAnyMessageWasWritten) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.TakeFrames();
  test::Text text;
  text.set_text("hello");
  const auto start = [&](const MethodDescriptor& method, const google::protobuf::MessageLite& request) {
    auto call = std::make_shared<ClientStreamCall>(*loop_, nullptr, 1 << 20, 1 << 20);
    call->KeepUntilComplete();
    call->method = &method;
    call->deadline = transport::Instant::Infinite();
    endpoint_->Start(*call, request, request.ByteSizeLong());
    loop_->RunUntilIdle();
    return call;
  };
  const std::shared_ptr<ClientStreamCall> watch = start(kWatchMethod, text);
  const std::shared_ptr<ClientStreamCall> silent = start(kChatMethod, test::Text());
  const std::shared_ptr<ClientStreamCall> chat = start(kChatMethod, test::Text());
  EXPECT_EQ(chat->TryWrite(text), Stream::Wrote::kYes);
  peer.Send(Drain(1));
  EXPECT_EQ(Plain(chat->end_status()),
            absl::UnavailableError("the server takes no more calls, this one was not executed"));

  RawPeer& next = Greet(1);
  const std::vector<ReceivedFrame> again = next.TakeFrames();
  ASSERT_THAT(again, SizeIs(2));
  EXPECT_EQ(again[0].message(), text.SerializeAsString());
  // What is written now goes to the new server.
  EXPECT_EQ(silent->TryWrite(text), Stream::Wrote::kYes);
  loop_->RunUntilIdle();
  EXPECT_THAT(next.TakeFrames(), SizeIs(1));
  next.Send(EncodeFrame({.type = FrameType::kMessage, .stream = StreamId::Make(1, 0)}, "",
                        text.SerializeAsString()) +
            Response(1) + Response(2));
  test::Text reply;
  EXPECT_EQ(watch->TryRead(reply), MessageQueue::Taken::kMessage);
  EXPECT_EQ(reply.text(), "hello");
  EXPECT_TRUE(watch->end_status().ok()) << watch->end_status();
  EXPECT_TRUE(silent->end_status().ok()) << silent->end_status();
}

TEST_F(EndpointTest, KeepsTheDeadlineOfACallThatIsSentAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  TestCall& sent = StartAndSettle(NewCallOf("sent", false, In(absl::Milliseconds(500))));
  TestCall& waits = StartAndSettle(NewCallOf("waits", false, In(absl::Milliseconds(200))));
  Advance(absl::Milliseconds(100));
  peer.Send(Drain(1));
  Advance(absl::Milliseconds(100));
  EXPECT_EQ(waits.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(waits.status.message()), HasSubstr("it was not executed, turned away 1 time"));
  RawPeer& next = Greet(1);
  const std::optional<ReceivedFrame> request = next.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 300'000u);
  Advance(absl::Milliseconds(300));
  EXPECT_EQ(sent.status.code(), StatusCode::kDeadlineExceeded);
}

TEST_F(EndpointTest, EndsCallsThatWereNotExecutedWhenItCannotConnectAgain) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  peer.Send(Response(1));
  TestCall& call = StartAndSettle(NewCall());
  TestCall& waits = StartAndSettle(NewCallOf("waits", /*wait_for_ready=*/true));
  script_.failures = 1;
  peer.Send(Drain(1));
  EXPECT_EQ(call.status,
            absl::UnavailableError("nobody listens there, it was not executed, turned away 1 time"));
  EXPECT_FALSE(waits.ended);
  Advance(absl::Seconds(1));
  EXPECT_THAT(TextsOf(Greet(1).TakeFrames()), ElementsAre("waits"));
}

TEST_F(EndpointTest, EndsCallsThatWaitToBeSentAgainWhenItCloses) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  TestCall& beyond = StartAndSettle(NewCall());
  TestCall& cancelled = StartAndSettle(NewCall());
  script_.hang = true;
  peer.Send(Drain(1));
  InLoop([&] { endpoint_->CancelCall(cancelled, absl::CancelledError("by its caller")); });
  EXPECT_EQ(cancelled.status, absl::CancelledError("by its caller"));
  EXPECT_FALSE(beyond.ended);
  Close();
  EXPECT_EQ(beyond.status, absl::CancelledError("the test ends"));
}

TEST_F(EndpointTest, SendsCallsAgainThatTheServerHadNoSlotFor) {
  Create();
  TestCall& first = NewCallOf("first");
  TestCall& second = NewCallOf("second");
  for (TestCall* call : {&first, &second}) {
    call->method = &test::kIdempotentEchoMethod;
    StartAndSettle(*call);
  }
  RawPeer& peer = Greet(0, {.max_streams = 2});
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("first", "second"));
  const WireStatus refusal{.status = absl::ResourceExhaustedError("stream slot is 2, limit is 1"),
                           .not_executed = true};
  peer.Send(EncodeHeadFrame(FrameType::kStatus, EncodeStatusHead(refusal, 16384), StreamId::Make(2, 0),
                            kEndStream));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
  EXPECT_FALSE(second.ended);
  peer.Send(Response(1));
  EXPECT_THAT(TextsOf(peer.TakeFrames()), ElementsAre("second"));
  peer.Send(Response(1, 1));
  EXPECT_TRUE(second.status.ok()) << second.status;
}

TEST_F(EndpointTest, SendsLaterCallsOverANewConnectionAfterDrain) {
  Create();
  TestCall& before = StartAndSettle(NewCall());
  RawPeer& peer = Greet();
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1));
  peer.Send(Drain(1));
  TestCall& after = StartAndSettle(NewCall());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
  EXPECT_THAT(script_.attempts, SizeIs(2));
  Greet(1).Send(Response(1));
  EXPECT_TRUE(after.status.ok()) << after.status;

  EXPECT_FALSE(before.ended);
  peer.Send(Response(1));
  EXPECT_TRUE(before.status.ok()) << before.status;
  peer.FinishWriting();
  EXPECT_TRUE(peer.ended());
}

TEST_F(EndpointTest, EndsCallsOfADrainedConnectionWhenItCloses) {
  Create();
  TestCall& call = StartAndSettle(NewCall());
  Greet().Send(Drain(1));
  EXPECT_FALSE(call.ended);
  Close();
  EXPECT_EQ(call.status, absl::CancelledError("the test ends"));
}

// ---------------------------------------------------------------- Slots and queues

TEST_F(EndpointTest, HasCallsWaitForSlots) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_streams = 3});
  for (int i = 0; i < 4; ++i) StartAndSettle(NewCall());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(2));
  peer.Send(Response(2) + Response(1));
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.stream.generation(), 1u);
  peer.Send(Response(1, 1) + Response(2, 1));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1));
  EXPECT_FALSE(calls_.back().ended);
  peer.Send(Response(1, 2) + Response(2, 2));
  for (const TestCall& call : calls_) EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, RefusesCallsBeyondThoseThatMayWait) {
  Create({.max_waiting_calls = 2});
  script_.hang = true;
  StartAndSettle(NewCall());
  StartAndSettle(NewCall());
  TestCall& call = StartAndSettle(NewCall());
  EXPECT_EQ(call.status, absl::ResourceExhaustedError("2 calls wait to be sent, limit is 2"));
}

TEST_F(EndpointTest, RefusesRequestsBeyondTheBytesThatMayWait) {
  Create({.max_waiting_bytes = 150});
  script_.hang = true;
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  first.request.set_text(std::string(98, 'x'));
  second.request.set_text(std::string(98, 'x'));
  StartAndSettle(first);
  StartAndSettle(second);
  EXPECT_FALSE(first.ended);
  EXPECT_EQ(second.status,
            absl::ResourceExhaustedError("200 bytes of requests wait to be sent, limit is 150"));
}

TEST_F(EndpointTest, RefusesWhatTheServerWould) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_message = 65'536});
  peer.TakeFrames();
  TestCall& large = NewCall();
  large.request.set_text(std::string(70'000, 'x'));
  TestCall& heady = NewCall();
  heady.head = *EncodeRequestHead({{"a", std::string(20'000, 'x')}}, 0, 65'535);
  const size_t head_size = heady.head.size();
  StartAndSettle(large);
  StartAndSettle(heady);
  EXPECT_EQ(large.status, absl::ResourceExhaustedError("request is 70004 bytes, limit is 65536"));
  EXPECT_EQ(heady.status,
            absl::ResourceExhaustedError(absl::StrCat("metadata is ", head_size, " bytes, limit is 16384")));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
}

// ---------------------------------------------------------------- Deadlines, and the end

TEST_F(EndpointTest, EndsACallWhoseDeadlinePassesBeforeItIsSent) {
  Create();
  script_.failures = 1000;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true, In(absl::Milliseconds(500))));
  for (int i = 0; i < 499; ++i) Advance(absl::Milliseconds(1));
  EXPECT_FALSE(call.ended);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(call.status,
            absl::DeadlineExceededError("the deadline of ferry.test.Echo/Echo passed before it could be "
                                        "sent: nobody listens there"));
}

TEST_F(EndpointTest, EndsACallWhoseDeadlinePassesWhileItWaitsForASlot) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_streams = 2});
  TestCall& call = StartAndSettle(NewCall(false, In(absl::Milliseconds(5))));
  Advance(absl::Milliseconds(5));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("every stream of the connection is in use"));
  peer.Send(Response(1));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1)) << "the call that has ended was sent";
}

TEST_F(EndpointTest, KeepsTheDeadlineOfACallThatWaitedAndWasSent) {
  Create();
  script_.failures = 1;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true, In(absl::Seconds(2))));
  Advance(absl::Seconds(1));
  RawPeer& peer = Greet();
  const std::optional<ReceivedFrame> request = peer.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 1'000'000u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(peer.TakeFrame()->header.type, FrameType::kCancel);
}

TEST_F(EndpointTest, EndsEveryCallWhenItCloses) {
  Create();
  TestCall& sent = StartAndSettle(NewCall());
  Greet(0, {.max_streams = 2});
  TestCall& waiting = StartAndSettle(NewCall());
  Close();
  TestCall& late = StartAndSettle(NewCall());
  for (const TestCall* call : {&sent, &waiting, &late}) {
    EXPECT_EQ(Plain(call->status), absl::CancelledError("the test ends"));
  }
}

TEST_F(EndpointTest, EndsCallsWhenItClosesWhileItConnects) {
  Create();
  script_.hang = true;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true));
  Close();
  EXPECT_EQ(call.status, absl::CancelledError("the test ends"));
}

TEST_F(EndpointTest, EndsACallOnceHoweverItsEndsCoincide) {
  // A reply, a STATUS, the deadline and the connection's end, all to be found in one batch.
  Create();
  TestCall& call = StartAndSettle(NewCall(false, In(absl::Milliseconds(5))));
  RawPeer& peer = Greet();
  clock_.Advance(absl::Milliseconds(5));
  peer.Send(Response(1) + Response(1));
  peer.FinishWriting();
  EXPECT_TRUE(call.ended);
}

TEST_F(EndpointTest, LivesOnWhenACallsEndClosesIt) {
  Create();
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  first.on_end = [&] { endpoint_->Close(absl::CancelledError("closed by a call's end")); };
  StartAndSettle(first);
  StartAndSettle(second);
  Greet().Send(Response(1));
  EXPECT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(second.status, absl::CancelledError("closed by a call's end"));
}

}  // namespace
}  // namespace ferry
