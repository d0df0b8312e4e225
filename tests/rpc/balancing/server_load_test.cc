#include "ferry/rpc/balancing/server_load.h"

#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

class ServerLoadTest : public testing::Test {
 protected:
  // A call that takes `latency`, from now on.
  void Call(absl::Duration latency, bool ok = true) {
    const transport::Instant started = clock_.Now();
    load_.OnStart();
    clock_.Advance(latency);
    load_.OnEnd(clock_.Now(), started, ok);
  }
  double Millis() const { return load_.LatencyNanos(clock_.Now()) / 1e6; }

  transport::ManualClock clock_;
  ServerLoad load_{absl::Seconds(5)};
};

TEST_F(ServerLoadTest, KnowsNothingAtFirst) {
  EXPECT_EQ(load_.LatencyNanos(clock_.Now()), 0);
  EXPECT_EQ(load_.in_flight(), 0);
}

TEST_F(ServerLoadTest, TakesTheFirstLatencyAsItIs) {
  Call(absl::Milliseconds(10));
  EXPECT_DOUBLE_EQ(Millis(), 10);
}

TEST_F(ServerLoadTest, RisesHalfWayAtOnce) {
  Call(absl::Milliseconds(10));
  Call(absl::Milliseconds(110));
  EXPECT_DOUBLE_EQ(Millis(), 60);
}

TEST_F(ServerLoadTest, FallsWithTime) {
  Call(absl::Milliseconds(1000));
  clock_.Advance(absl::Milliseconds(4990));
  Call(absl::Milliseconds(10));
  // A decay time has passed.
  EXPECT_NEAR(Millis(), 10 + 990 * std::exp(-1), 1e-6);
}

TEST_F(ServerLoadTest, DecaysWhileNobodyAsksAndCountsInFullWithACallInFlight) {
  Call(absl::Milliseconds(100));
  clock_.Advance(absl::Seconds(10));
  EXPECT_NEAR(Millis(), 100 * std::exp(-2), 1e-6);
  load_.OnStart();
  EXPECT_DOUBLE_EQ(Millis(), 100);
  load_.OnAbandoned();
  EXPECT_NEAR(Millis(), 100 * std::exp(-2), 1e-6);
}

TEST_F(ServerLoadTest, AnEstimateNeverDecaysToNone) {
  Call(absl::Milliseconds(100));
  clock_.Advance(absl::Hours(1000));
  EXPECT_GT(load_.LatencyNanos(clock_.Now()), 0);
}

TEST_F(ServerLoadTest, AFastFailureMakesItSlowerNotQuicker) {
  Call(absl::Milliseconds(100));
  const double before = Millis();
  Call(absl::Microseconds(1), /*ok=*/false);
  EXPECT_NEAR(Millis(), 1.5 * before, 0.01);
  for (int i = 0; i < 100; ++i) Call(absl::Microseconds(1), /*ok=*/false);
  EXPECT_GT(Millis(), 5'000);
  EXPECT_LE(Millis(), 10'000);
}

TEST_F(ServerLoadTest, CountsWhatEnds) {
  Call(absl::Milliseconds(2));
  Call(absl::Milliseconds(3));
  Call(absl::Milliseconds(4), /*ok=*/false);
  Call(absl::Milliseconds(4), /*ok=*/false);
  EXPECT_EQ(load_.successes(), 2);
  EXPECT_EQ(load_.failures(), 2);
  EXPECT_EQ(load_.failures_in_a_row(), 2);
  EXPECT_EQ(load_.time_of_successes(), absl::Milliseconds(5));
  Call(absl::Milliseconds(1));
  EXPECT_EQ(load_.failures_in_a_row(), 0);
}

TEST_F(ServerLoadTest, ForgetsTheEstimateButNotTheCounts) {
  Call(absl::Milliseconds(2));
  Call(absl::Milliseconds(2), /*ok=*/false);
  load_.OnStart();
  load_.Forget();
  EXPECT_EQ(Millis(), 0);
  EXPECT_EQ(load_.failures_in_a_row(), 0);
  EXPECT_EQ(load_.failures(), 1);
  EXPECT_EQ(load_.in_flight(), 1);
}

TEST_F(ServerLoadTest, TimeThatGoesBackIsNoTime) {
  Call(absl::Milliseconds(10));
  load_.OnStart();
  load_.OnEnd({clock_.Now().nanos - 1'000'000'000}, clock_.Now(), /*ok=*/true);
  EXPECT_DOUBLE_EQ(Millis(), 10);
}

TEST_F(ServerLoadTest, SharesNoCacheLine) {
  const auto load = std::make_shared<ServerLoad>();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(load.get()) % ABSL_CACHELINE_SIZE, 0);
  EXPECT_EQ(sizeof(ServerLoad) % ABSL_CACHELINE_SIZE, 0);
}

TEST_F(ServerLoadTest, LosesNoCountAmongThreads) {
  constexpr int kThreads = 4;
  constexpr int kCalls = 20'000;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < kCalls; ++i) {
        load_.OnStart();
        load_.OnEnd({i + 1000}, {i}, /*ok=*/i % kThreads != t);
        EXPECT_LE(load_.LatencyNanos({i}), 10e9);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(load_.in_flight(), 0);
  EXPECT_EQ(load_.successes(), kThreads * kCalls * 3 / 4);
  EXPECT_EQ(load_.failures(), kThreads * kCalls / 4);
  EXPECT_EQ(load_.time_of_successes(), absl::Nanoseconds(1000) * (kThreads * kCalls * 3 / 4));
}

}  // namespace
}  // namespace ferry
