// What the tests of calls that a fleet sends to several servers at once stand on.
#ifndef FERRY_TESTS_RPC_FLEET_HEDGING_FIXTURE_H_
#define FERRY_TESTS_RPC_FLEET_HEDGING_FIXTURE_H_

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/retry_policy.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/testing/manual_resolver.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {

inline constexpr absl::Duration kDelay = absl::Milliseconds(50);
inline constexpr size_t kServers = 3;

inline std::string NameOf(size_t server) { return absl::StrCat("127.0.0.1:", server + 1); }

inline int AttemptOf(const test::ReceivedFrame& request) { return ferry::AttemptOf(request.head()); }

inline std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

inline std::string Answer(const test::ReceivedFrame& request, const std::string& text) {
  return test::EncodeFrame({.type = transport::FrameType::kResponse,
                            .flags = transport::kEndStream,
                            .stream = request.header.stream},
                           {}, EncodedText(text));
}

inline std::string AnswerStatus(const test::ReceivedFrame& request, const WireStatus& status) {
  return test::EncodeHeadFrame(transport::FrameType::kStatus, EncodeStatusHead(status, 16384),
                               request.header.stream, transport::kEndStream);
}

// The server takes no calls, and has taken none.
inline std::string DrainAll() {
  wire::DrainHead head;
  return test::EncodeHeadFrame(transport::FrameType::kDrain, head.SerializeAsString());
}

// A FleetHedgingTest has a fleet of three servers in memory. The first that is connected, and not to be
// avoided, is picked.
//
// Thread-compatible.
class FleetHedgingTest : public testing::Test {
 protected:
  ~FleetHedgingTest() override { Close(); }

  void Connect(const RetryPolicy& retry = {.hedge_delay = kDelay}, const RetryBudget::Options& budget = {}) {
    absl::StatusOr<std::shared_ptr<Fleet>> fleet =
        Fleet::Create({.name = "greeters",
                       .endpoint = endpoint_options_,
                       .pool = pool_options_,
                       .balancing = {.policy = BalancingPolicy::kPickFirst},
                       .retry_budget = budget,
                       .retry = retry,
                       .seed = 1},
                      *loop_, names_.Factory(), [this](const ResolvedServer& server) {
                        for (size_t i = 0; i < kServers; ++i) {
                          if (server.name == NameOf(i))
                            return std::make_unique<test::ScriptedConnector>(scripts_[i]);
                        }
                        return std::unique_ptr<test::ScriptedConnector>();
                      });
    ASSERT_TRUE(fleet.ok()) << fleet.status();
    fleet_ = *std::move(fleet);
    loop_->RunUntilIdle();
    names_.Tell({NameOf(0), NameOf(1), NameOf(2)});
    loop_->RunUntilIdle();
    for (size_t i = 0; i < kServers; ++i) Greet(i);
  }
  void Greet(size_t i) {
    // Of its last connection.
    peers_[i] = std::make_unique<test::RawPeer>(std::move(scripts_[i].far_ends.back()),
                                                [this] { loop_->RunUntilIdle(); });
    scripts_[i].far_ends.clear();
    peers_[i]->Send(test::Preface() + test::EncodeSettingsFrame(settings_[i]));
    EXPECT_TRUE(peers_[i]->TakePreface());
    EXPECT_EQ(peers_[i]->TakeFrame().value_or(test::ReceivedFrame()).header.type,
              transport::FrameType::kSettings);
  }
  void Close() {
    if (fleet_ == nullptr) return;
    test::RunIn(*loop_, [this] { fleet_->Close(absl::CancelledError("the test ends")); });
    fleet_ = nullptr;
    loop_->RunUntilIdle();
  }

  test::TestCall& Start(const CallOptions& options = {}, absl::Duration timeout = absl::InfiniteDuration(),
                        const MethodDescriptor& method = test::kIdempotentEchoMethod,
                        const std::string& text = "hello") {
    test::TestCall& call = calls_.emplace_back(text, clock_.Now() + timeout);
    call.method = &method;
    call.wait_for_ready = options.wait_for_ready;
    EXPECT_EQ(fleet_->Route(call, options), absl::OkStatus());
    fleet_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    loop_->RunUntilIdle();
    return call;
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  // The only frame that has come to a server, which is a REQUEST.
  test::ReceivedFrame TakeRequest(size_t server) {
    std::vector<test::ReceivedFrame> frames = peers_[server]->TakeFrames();
    EXPECT_EQ(frames.size(), 1u) << "to server " << server;
    if (frames.empty()) return {};
    EXPECT_EQ(frames[0].header.type, transport::FrameType::kRequest);
    return std::move(frames[0]);
  }
  // What has come to a server.
  std::vector<transport::FrameType> Types(size_t server) {
    std::vector<transport::FrameType> types;
    for (const test::ReceivedFrame& frame : peers_[server]->TakeFrames()) types.push_back(frame.header.type);
    return types;
  }
  // A call that has been sent to the first two servers.
  struct Hedged {
    test::TestCall& call;
    test::ReceivedFrame first;
    test::ReceivedFrame second;
  };
  Hedged StartHedged(const CallOptions& options = {}, absl::Duration timeout = absl::InfiniteDuration()) {
    test::TestCall& call = Start(options, timeout);
    test::ReceivedFrame first = TakeRequest(0);
    Advance(kDelay);
    return {call, std::move(first), TakeRequest(1)};
  }

  transport::ManualClock clock_;
  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  test::ManualNames names_;
  Endpoint::Options endpoint_options_;
  PoolOptions pool_options_;
  std::array<WireSettings, kServers> settings_;
  std::array<test::ScriptedConnector::Script, kServers> scripts_;
  std::array<std::unique_ptr<test::RawPeer>, kServers> peers_;
  std::deque<test::TestCall> calls_;
  std::shared_ptr<Fleet> fleet_;
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_FLEET_HEDGING_FIXTURE_H_
