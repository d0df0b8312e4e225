// An endpoint that is one of several: it stays connected, and gives back the calls that it cannot send.
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/attempt_limiter.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/server_target.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using test::EncodeFrame;
using test::RawPeer;
using test::ScriptedConnector;
using test::TestCall;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using transport::EventLoop;
using transport::FrameType;
using transport::StreamId;

// A Log is what a watcher was told.
struct Log final : Endpoint::Watcher {
  void OnStateChange(ServerTarget& server) override { states.push_back(server.ready()); }
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    last_reason = why;
    for (ClientCall* call : calls) {
      test::Text request;
      EXPECT_TRUE(request.ParseFromArray(call->request_block ? call->request_block.data() : "",
                                         static_cast<int>(call->request_size)));
      returned.push_back(request.text());
      call->End(absl::AbortedError("returned"));
    }
  }

  std::vector<bool> states;
  // The texts of their requests.
  std::vector<std::string> returned;
  absl::Status last_reason;
};

class WatchedEndpointTest : public testing::Test {
 protected:
  explicit WatchedEndpointTest(AttemptLimiter* attempts = nullptr) {
    absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    Endpoint::Options options;
    options.watcher = log_;
    options.attempts = attempts;
    endpoint_ = Endpoint::Create(options, *loop_, std::make_unique<ScriptedConnector>(script_));
  }
  ~WatchedEndpointTest() override {
    InLoop([this] { endpoint_->Close(absl::CancelledError("the test ends")); });
  }

  void KeepConnected() {
    InLoop([this] { endpoint_->KeepConnected(); });
  }
  // The server's end of the newest connection, after SETTINGS.
  RawPeer& Greet(const WireSettings& settings = {}) {
    peer_ = std::make_unique<RawPeer>(std::move(script_.far_ends.back()), [this] { loop_->RunUntilIdle(); });
    peer_->Send(test::Preface() + test::EncodeSettingsFrame(settings));
    EXPECT_TRUE(peer_->TakePreface());
    peer_->TakeFrames();
    return *peer_;
  }
  TestCall& Start(const std::string& text, bool wait_for_ready = false) {
    TestCall& call = calls_.emplace_back(text);
    call.wait_for_ready = wait_for_ready;
    endpoint_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    loop_->RunUntilIdle();
    return call;
  }
  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }

  transport::ManualClock clock_;
  std::deque<TestCall> calls_;
  ScriptedConnector::Script script_;
  const std::shared_ptr<Log> log_ = std::make_shared<Log>();
  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<Endpoint> endpoint_;
  std::unique_ptr<RawPeer> peer_;
};

TEST_F(WatchedEndpointTest, ConnectsWithoutACall) {
  KeepConnected();
  EXPECT_THAT(script_.attempts, SizeIs(1));
  EXPECT_FALSE(endpoint_->ready());
  Greet();
  EXPECT_TRUE(endpoint_->ready());
  EXPECT_THAT(log_->states, ElementsAre(true));
}

TEST_F(WatchedEndpointTest, ConnectsAgainWhenTheConnectionIsLost) {
  KeepConnected();
  Greet().Close();
  loop_->RunUntilIdle();
  EXPECT_FALSE(endpoint_->ready());
  EXPECT_TRUE(endpoint_->failing());
  Advance(absl::Minutes(1));
  EXPECT_THAT(script_.attempts, SizeIs(2));
  EXPECT_TRUE(endpoint_->failing()) << "until the server has introduced itself";
  Greet();
  EXPECT_TRUE(endpoint_->ready());
  EXPECT_FALSE(endpoint_->failing());
  EXPECT_THAT(log_->states, ElementsAre(true, false, true));
}

TEST_F(WatchedEndpointTest, ConnectsSoonForACallThatWaitsElsewhere) {
  script_.failures = 1000;
  KeepConnected();
  // By now it waits for up to 20 s.
  while (script_.attempts.size() < 20) Advance(absl::Seconds(1));
  for (int i = 0; i < 20; ++i) {
    const size_t before = script_.attempts.size();
    InLoop([this] { endpoint_->ConnectSoon(); });
    Advance(Endpoint::kWantedWait);
    EXPECT_GT(script_.attempts.size(), before);
  }
}

TEST_F(WatchedEndpointTest, IsFailingWhenItIsTurnedAwayTwice) {
  KeepConnected();
  script_.far_ends.back()->Close();
  loop_->RunUntilIdle();
  EXPECT_FALSE(endpoint_->failing()) << "a server that is being replaced does so";
  ASSERT_THAT(script_.far_ends, SizeIs(2));
  script_.far_ends.back()->Close();
  loop_->RunUntilIdle();
  EXPECT_TRUE(endpoint_->failing());
}

class LimitedEndpointTest : public WatchedEndpointTest {
 protected:
  LimitedEndpointTest() : WatchedEndpointTest(&limiter_) {}

  // Two attempts at once, and one a second.
  AttemptLimiter limiter_{1, 2};
};

TEST_F(LimitedEndpointTest, WaitsForItsTurnToConnect) {
  EXPECT_EQ(limiter_.Reserve(clock_.Now()), absl::ZeroDuration());
  EXPECT_EQ(limiter_.Reserve(clock_.Now()), absl::ZeroDuration());
  KeepConnected();
  EXPECT_THAT(script_.attempts, IsEmpty());
  EXPECT_FALSE(endpoint_->failing());
  Advance(absl::Milliseconds(999));
  EXPECT_THAT(script_.attempts, IsEmpty());
  Advance(absl::Milliseconds(1));
  EXPECT_THAT(script_.attempts, SizeIs(1));
}

TEST_F(WatchedEndpointTest, GivesBackCallsWithTheirRequestsWhileItConnects) {
  script_.hang = true;
  KeepConnected();
  EXPECT_TRUE(Start("connecting").ended);
  EXPECT_THAT(log_->returned, ElementsAre("connecting"));
}

TEST_F(WatchedEndpointTest, GivesBackCallsWithTheirRequestsWhileItWaitsToTryAgain) {
  script_.failures = 1;
  KeepConnected();
  EXPECT_TRUE(endpoint_->failing());
  Start("failed");
  EXPECT_THAT(log_->returned, ElementsAre("failed"));
}

TEST_F(WatchedEndpointTest, GivesBackCallsWithTheirRequestsAfterAConnectionThatAnsweredNothing) {
  KeepConnected();
  Greet().Close();
  loop_->RunUntilIdle();
  Start("lost");
  EXPECT_THAT(log_->returned, ElementsAre("lost"));
}

TEST_F(WatchedEndpointTest, GivesBackCallsWithTheirRequestsOnceItIsClosed) {
  KeepConnected();
  InLoop([this] { endpoint_->Close(absl::UnavailableError("gone from the list")); });
  Start("closed");
  EXPECT_THAT(log_->returned, ElementsAre("closed"));
}

// Whatever that was: they are to be sent elsewhere, or to fail as calls do for which there is no server.
TEST_F(WatchedEndpointTest, CallsThatWaitComeBackAsUnavailableFromABrokenConnection) {
  KeepConnected();
  RawPeer& peer = Greet(WireSettings{.max_streams = 2});
  Start("sent");
  EXPECT_FALSE(Start("waiting", /*wait_for_ready=*/true).ended);
  peer.Send("half a frame");
  peer.Close();
  loop_->RunUntilIdle();
  EXPECT_THAT(log_->returned, ElementsAre("waiting"));
  EXPECT_EQ(log_->last_reason.code(), absl::StatusCode::kUnavailable) << log_->last_reason;
}

TEST_F(WatchedEndpointTest, SendsACallThatWasGivenBack) {
  KeepConnected();
  RawPeer& peer = Greet();
  TestCall& call = calls_.emplace_back("again");
  call.request_size = call.request.ByteSizeLong();
  call.request_block = loop_->blocks().pool().Allocate(call.request_size);
  ASSERT_TRUE(call.request.SerializeToArray(call.request_block.data(), static_cast<int>(call.request_size)));
  InLoop([&] { endpoint_->StartAgain(call, /*admitted=*/true); });
  EXPECT_THAT(log_->returned, IsEmpty());
  const std::optional<test::ReceivedFrame> frame = peer.TakeFrame();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header.type, FrameType::kRequest);
  peer.Send(EncodeFrame(
      {.type = FrameType::kResponse, .flags = transport::kEndStream, .stream = StreamId::Make(1, 0)}));
  EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

}  // namespace
}  // namespace ferry
