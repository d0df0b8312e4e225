// What the tests of connection pools stand on.
#ifndef FERRY_TESTS_RPC_CONNECTION_POOL_FIXTURE_H_
#define FERRY_TESTS_RPC_CONNECTION_POOL_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/connection_pool.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {

// A ServedConnection is the server's end of a connection.
struct ServedConnection {
  std::unique_ptr<test::RawPeer> peer;
  bool greeted = false;
  bool drained = false;
  bool lost = false;
  // The calls that have come and were not answered, and how many came ever.
  std::deque<transport::StreamId> open;
  uint64_t calls = 0;
  // Which attempt each of them was.
  std::vector<int> attempts;
};

// A ConnectionPoolTest has a pool over memory, whose servers answer, drain and go when the test says so.
//
// Thread-compatible.
class ConnectionPoolTest : public testing::Test {
 protected:
  ConnectionPoolTest() : loop_(test::NewLoop({.clock = &clock_})) {}
  ~ConnectionPoolTest() override {
    if (pool_ != nullptr) Close(absl::CancelledError("the test ends"));
    loop_->RunUntilIdle();
  }

  void Create(const PoolOptions& options, Endpoint::Options endpoint = {}) {
    ASSERT_EQ(CheckPoolOptions(options, false), absl::OkStatus());
    endpoint.name = "the server";
    pool_ = ConnectionPool::Create({.pool = options, .endpoint = std::move(endpoint), .seed = 1}, *loop_,
                                   std::make_unique<test::ScriptedConnector>(script_));
    InLoop([this] { pool_->KeepConnected(); });
  }
  void Close(const absl::Status& why) {
    InLoop([&] { pool_->Close(why); });
  }
  void InLoop(const std::function<void()>& task) { test::RunIn(*loop_, task); }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }

  // The server's end of the connection that was made as the `index`th.
  ServedConnection& At(size_t index) {
    loop_->RunUntilIdle();
    while (served_.size() < script_.far_ends.size()) {
      auto peer = std::make_unique<test::RawPeer>(std::move(script_.far_ends[served_.size()]),
                                                  [this] { loop_->RunUntilIdle(); });
      served_.push_back({.peer = std::move(peer), .open = {}, .attempts = {}});
    }
    EXPECT_LT(index, served_.size());
    return served_[index];
  }
  size_t made() const { return script_.far_ends.size(); }
  ServedConnection& Greet(size_t index) {
    ServedConnection& served = At(index);
    if (served.lost || std::exchange(served.greeted, true)) return served;
    served.peer->Send(test::Preface() + test::EncodeSettingsFrame(settings_));
    EXPECT_TRUE(served.peer->TakePreface() || served.peer->ended()) << "it may be closed before it has begun";
    loop_->RunUntilIdle();
    return Look(index);
  }
  // Greets until there is nobody left to greet.
  void GreetAll() {
    loop_->RunUntilIdle();
    for (size_t i = 0; i < made(); ++i) Greet(i);
  }
  // Takes the requests that have come.
  ServedConnection& Look(size_t index) {
    ServedConnection& served = At(index);
    if (served.lost) return served;
    for (const test::ReceivedFrame& frame : served.peer->TakeFrames()) {
      if (frame.header.type == transport::FrameType::kRequest) {
        served.open.push_back(frame.header.stream);
        ++served.calls;
        served.attempts.push_back(AttemptOf(frame.head()));
      } else if (frame.header.type == transport::FrameType::kCancel) {
        std::erase(served.open, frame.header.stream);
      }
    }
    return served;
  }
  // How many calls have come on a connection and were not answered.
  size_t CallsOn(size_t index) { return Look(index).open.size(); }
  // The server's end goes away.
  void Lose(size_t index) {
    ServedConnection& served = At(index);
    served.lost = true;
    served.open.clear();
    served.peer->Close();
    loop_->RunUntilIdle();
  }
  bool IsClosed(size_t index) { return At(index).peer->ended(); }
  // Answers the first call that has come.
  void Answer(size_t index) {
    ServedConnection& served = Look(index);
    ASSERT_FALSE(served.open.empty());
    const transport::StreamId stream = served.open.front();
    served.open.pop_front();
    served.peer->Send(test::EncodeFrame(
        {.type = transport::FrameType::kResponse, .flags = transport::kEndStream, .stream = stream}));
  }
  void AnswerAll(size_t index) {
    while (CallsOn(index) > 0) Answer(index);
  }
  // Says that it takes no more than the first `calls`.
  void Drain(size_t index, uint64_t calls) {
    wire::DrainHead head;
    head.set_last_ordinal(calls);
    ServedConnection& served = Look(index);
    while (served.calls > calls && !served.open.empty()) {
      served.open.pop_back();
      --served.calls;
    }
    served.drained = true;
    served.peer->Send(test::EncodeHeadFrame(transport::FrameType::kDrain, head.SerializeAsString()));
  }

  test::TestCall& NewCall(transport::Instant until = transport::Instant::Infinite()) {
    return calls_.emplace_back("hello", until);
  }
  test::TestCall& Start(test::TestCall& call) {
    pool_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    loop_->RunUntilIdle();
    return call;
  }
  test::TestCall& Start() { return Start(NewCall()); }
  void StartMany(size_t count) {
    for (size_t i = 0; i < count; ++i) Start();
  }
  std::vector<ConnectionStats> Stats() {
    std::vector<ConnectionStats> stats;
    InLoop([&] { pool_->AppendConnections(stats); });
    return stats;
  }

  transport::ManualClock clock_;
  WireSettings settings_;
  std::deque<test::TestCall> calls_;
  test::ScriptedConnector::Script script_;
  const std::unique_ptr<transport::EventLoop> loop_;
  std::deque<ServedConnection> served_;
  std::shared_ptr<ConnectionPool> pool_;
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_CONNECTION_POOL_FIXTURE_H_
