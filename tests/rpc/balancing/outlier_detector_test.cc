#include "ferry/rpc/balancing/outlier_detector.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/transport/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using testing::HasSubstr;
using Options = OutlierDetector::Options;
using Change = OutlierDetector::Change;

class OutlierDetectorTest : public testing::Test {
 protected:
  void Create(size_t servers, Options options = {}) {
    options.seed = random_.Number(1, 1u << 30);
    ASSERT_TRUE(OutlierDetector::Check(options).ok());
    detector_ = std::make_unique<OutlierDetector>(options);
    for (size_t i = 0; i < servers; ++i) Add(/*ramp_up=*/false);
  }
  void Add(bool ramp_up) {
    loads_.push_back(std::make_shared<ServerLoad>());
    detector_->Add(loads_.size() - 1, loads_.back(), ramp_up);
    detector_->SetUsable(loads_.size() - 1, true, clock_.Now());
  }
  void Calls(size_t server, int count, bool ok, absl::Duration latency = absl::Milliseconds(1)) {
    for (int i = 0; i < count; ++i) {
      loads_[server]->OnStart();
      loads_[server]->OnEnd(clock_.Now(), clock_.Now() + -latency, ok);
    }
  }
  std::vector<Change> Sweep(absl::Duration after = absl::Seconds(1)) {
    clock_.Advance(after);
    return detector_->Sweep(clock_.Now());
  }
  // Sweeps whenever there is something to do, until the server is in use. How long that took.
  absl::Duration UntilBack(uint64_t server) {
    const transport::Instant from = clock_.Now();
    while (detector_->is_ejected(server)) Sweep(detector_->next_sweep() - clock_.Now());
    return clock_.Now() - from;
  }

  test::Random random_;
  transport::ManualClock clock_;
  std::vector<std::shared_ptr<ServerLoad>> loads_;
  std::unique_ptr<OutlierDetector> detector_;
};

TEST_F(OutlierDetectorTest, LeavesGoodServersAlone) {
  Create(3);
  for (int second = 0; second < 100; ++second) {
    for (size_t i = 0; i < 3; ++i) {
      Calls(i, 9, true);
      Calls(i, 1, false);
    }
    EXPECT_TRUE(Sweep().empty());
  }
}

TEST_F(OutlierDetectorTest, EjectsAfterFailuresInARow) {
  Create(3);
  Calls(1, 4, false);
  EXPECT_FALSE(detector_->HasFailedInARow(*loads_[1]));
  EXPECT_TRUE(Sweep().empty());
  Calls(1, 1, false);
  EXPECT_TRUE(detector_->HasFailedInARow(*loads_[1]));
  const std::vector<Change> changes = Sweep(absl::ZeroDuration());
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].server, 1);
  EXPECT_TRUE(changes[0].ejected);
  EXPECT_EQ(changes[0].reason, "5 failures in a row, limit is 5");
  EXPECT_TRUE(detector_->is_ejected(1));
  EXPECT_EQ(detector_->ejected(), 1);
  EXPECT_TRUE(Sweep().empty());
}

TEST_F(OutlierDetectorTest, OneFailureInARowAsksForASweep) {
  Create(3);
  int asked = 0;
  for (int i = 0; i < 100; ++i) {
    loads_[0]->OnStart();
    if (detector_->IsDue(loads_[0]->OnEnd(clock_.Now(), clock_.Now(), /*ok=*/false))) ++asked;
  }
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(detector_->IsDue(loads_[1]->OnEnd(clock_.Now(), clock_.Now(), /*ok=*/true)));
  Create(0, {.failures_in_a_row = 0});
  EXPECT_FALSE(detector_->IsDue(0));
}

TEST_F(OutlierDetectorTest, ASuccessBetweenIsNotInARow) {
  Create(3, {.max_failure_share = 1});
  for (int i = 0; i < 10; ++i) {
    Calls(1, 4, false);
    Calls(1, 1, true);
    EXPECT_TRUE(Sweep().empty());
  }
}

TEST_F(OutlierDetectorTest, EjectsForItsShareOfFailuresGivenEnoughVolume) {
  Create(3, {.failures_in_a_row = 0});
  Calls(0, 12, false);
  Calls(0, 7, true);
  EXPECT_TRUE(Sweep().empty());
  Calls(0, 1, true);
  const std::vector<Change> changes = Sweep();
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].reason, "12 of 20 calls failed, limit is 50 %");
}

TEST_F(OutlierDetectorTest, LooksAtTheWindowOnly) {
  Create(3, {.failures_in_a_row = 0, .min_volume = 20});
  Calls(0, 15, false);
  for (int i = 0; i < 12; ++i) EXPECT_TRUE(Sweep().empty());
  // The old failures no longer count.
  Calls(0, 10, false);
  Calls(0, 11, true);
  EXPECT_TRUE(Sweep().empty());
  Calls(0, 2, false);
  EXPECT_EQ(Sweep().size(), 1);
}

TEST_F(OutlierDetectorTest, EjectsALatencyOutlier) {
  Create(5);
  for (size_t i = 0; i < 5; ++i) Calls(i, 20, true, absl::Milliseconds(i == 2 ? 101 : 20));
  const std::vector<Change> changes = Sweep();
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].server, 2);
  EXPECT_EQ(changes[0].reason, "calls take 101ms on the average, limit is 100ms");
}

TEST_F(OutlierDetectorTest, JudgesNoLatencyByTooLittle) {
  struct Case {
    const char* name;
    size_t servers;
    int calls;
    absl::Duration slow;
    absl::Duration usual;
    double factor;
  };
  const Case kCases[] = {
      {"one other", 2, 20, absl::Seconds(1), absl::Milliseconds(20), 5},
      {"too few calls", 5, 19, absl::Seconds(1), absl::Milliseconds(20), 5},
      {"small times", 5, 20, absl::Milliseconds(9), absl::Microseconds(20), 5},
      {"turned off", 5, 20, absl::Seconds(1), absl::Milliseconds(20), 0},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    loads_.clear();
    Create(c.servers, {.max_latency_factor = c.factor});
    for (size_t i = 0; i < c.servers; ++i) Calls(i, c.calls, true, i == 0 ? c.slow : c.usual);
    EXPECT_TRUE(Sweep().empty());
  }
}

TEST_F(OutlierDetectorTest, NeverEjectsMoreThanItsShareNorTheLast) {
  for (const double share : {0.0, 0.3, 0.5, 1.0}) {
    for (const size_t servers : {1, 2, 3, 10}) {
      SCOPED_TRACE(testing::Message() << share << " of " << servers);
      loads_.clear();
      Create(servers, {.max_ejected_share = share});
      const auto most = std::min(static_cast<size_t>(share * static_cast<double>(servers)), servers - 1);
      for (int second = 0; second < 30; ++second) {
        for (size_t i = 0; i < servers; ++i) Calls(i, 10, false);
        Sweep();
        EXPECT_LE(detector_->ejected(), most);
      }
      EXPECT_GT(detector_->ejections_refused(), 0);
    }
  }
}

TEST_F(OutlierDetectorTest, EjectsTheWorstFirst) {
  Create(4, {.max_ejected_share = 0.25});
  Calls(0, 5, false);
  Calls(1, 6, true);
  Calls(1, 30, false);
  Calls(2, 40, true, absl::Seconds(10));
  const std::vector<Change> changes = Sweep();
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].server, 1);
}

TEST_F(OutlierDetectorTest, EjectsForTwiceAsLongEachTime) {
  Create(3, {.base_ejection = absl::Seconds(2), .max_ejection = absl::Seconds(20)});
  for (const double expected : {2.0, 4.0, 8.0, 16.0, 20.0, 20.0}) {
    SCOPED_TRACE(expected);
    Calls(1, 5, false);
    Sweep(absl::ZeroDuration());
    ASSERT_TRUE(detector_->is_ejected(1));
    const double away = absl::ToDoubleSeconds(UntilBack(1));
    EXPECT_GE(away, 0.8 * expected);
    EXPECT_LE(away, 1.2 * expected + 1e-6);
  }
}

TEST_F(OutlierDetectorTest, EjectionTimesAreSpread) {
  Create(40);
  for (size_t i = 0; i < 20; ++i) Calls(i, 5, false);
  Sweep(absl::ZeroDuration());
  EXPECT_EQ(detector_->ejected(), 20);
  // They come back one after the other: a sweep at each time.
  int times = 0;
  for (size_t before = 20; before > 0; before = detector_->ejected()) {
    Sweep(detector_->next_sweep() - clock_.Now());
    if (detector_->ejected() < before) ++times;
  }
  EXPECT_GT(times, 15);
}

TEST_F(OutlierDetectorTest, ForgivesInTime) {
  Create(3, {.forgive_after = absl::Seconds(30)});
  for (int i = 0; i < 3; ++i) {
    Calls(1, 5, false);
    Sweep(absl::ZeroDuration());
    UntilBack(1);
  }
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(Sweep().size() <= 1) << i;
  ASSERT_FALSE(detector_->is_ejected(1));
  Calls(1, 5, false);
  Sweep(absl::ZeroDuration());
  EXPECT_LE(UntilBack(1), absl::Seconds(2.4) + absl::Nanoseconds(1));
}

TEST_F(OutlierDetectorTest, AServerComesBackGradually) {
  Create(3, {.ramp_time = absl::Seconds(4), .first_factor = 0.2});
  Calls(1, 5, false);
  Sweep(absl::ZeroDuration());
  UntilBack(1);
  const transport::Instant back = clock_.Now();
  EXPECT_EQ(detector_->weight_factor(1), 0.2);
  double last = 0.2;
  int steps = 0;
  while (last < 1) {
    const std::vector<Change> changes = Sweep(detector_->next_sweep() - clock_.Now());
    ASSERT_LT(++steps, 100);
    for (const Change& change : changes) {
      EXPECT_EQ(change.server, 1);
      EXPECT_FALSE(change.ejected);
      EXPECT_TRUE(change.reason.empty());
      EXPECT_GT(change.weight_factor, last);
      EXPECT_EQ(change.weight_factor, detector_->weight_factor(1));
      last = change.weight_factor;
    }
  }
  EXPECT_EQ(clock_.Now() - back, absl::Seconds(4));
  EXPECT_EQ(steps, 8);
}

TEST_F(OutlierDetectorTest, WhatFailedBeforeTheEjectionDoesNotCountAfterIt) {
  Create(3);
  Calls(1, 100, false);
  Sweep();
  UntilBack(1);
  for (int i = 0; i < 20; ++i) {
    Calls(1, 2, true);
    Sweep();
    EXPECT_FALSE(detector_->is_ejected(1));
  }
}

TEST_F(OutlierDetectorTest, ANewServerRampsUpIfItIsToldSo) {
  Create(3);
  EXPECT_EQ(detector_->weight_factor(0), 1);
  Add(/*ramp_up=*/true);
  EXPECT_EQ(detector_->weight_factor(3), 0.1);
  while (detector_->weight_factor(3) < 1) Sweep(detector_->next_sweep() - clock_.Now());
}

TEST_F(OutlierDetectorTest, ARestartedServerComesBackAtOnce) {
  Create(3);
  Calls(1, 5, false);
  Sweep();
  ASSERT_TRUE(detector_->is_ejected(1));
  detector_->SetUsable(1, false, clock_.Now());
  EXPECT_FALSE(detector_->is_ejected(1));
  EXPECT_EQ(detector_->ejected(), 0);
  clock_.Advance(absl::Milliseconds(10));
  detector_->SetUsable(1, true, clock_.Now());
  EXPECT_FALSE(detector_->is_ejected(1));
  EXPECT_EQ(detector_->weight_factor(1), 0.1);
  EXPECT_TRUE(Sweep(absl::ZeroDuration()).empty());
  while (detector_->weight_factor(1) < 1) Sweep(detector_->next_sweep() - clock_.Now());
  detector_->SetUsable(77, true, clock_.Now());
}

TEST_F(OutlierDetectorTest, AServerRampsUpFromWhenItCanBeUsed) {
  Create(3);
  loads_.push_back(std::make_shared<ServerLoad>());
  detector_->Add(3, loads_.back(), /*ramp_up=*/true);
  Sweep(absl::Seconds(10));
  detector_->SetUsable(3, true, clock_.Now());
  EXPECT_EQ(detector_->weight_factor(3), 0.1);
}

TEST_F(OutlierDetectorTest, NothingIsLookedAtThatCannotBeUsed) {
  Create(3);
  Sweep();
  for (uint64_t server = 0; server < 3; ++server) detector_->SetUsable(server, false, clock_.Now());
  Calls(1, 5, false);
  EXPECT_TRUE(Sweep().empty());
  EXPECT_EQ(detector_->next_sweep(), transport::Instant::Infinite());
  EXPECT_FALSE(detector_->is_ejected(1));
}

TEST_F(OutlierDetectorTest, ServersThatCannotBeUsedCountAsEjected) {
  const struct {
    uint64_t unusable;
    size_t ejected;
  } kCases[] = {{0, 5}, {1, 4}, {4, 1}, {5, 0}, {6, 0}, {9, 0}, {10, 0}};
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.unusable);
    loads_.clear();
    Create(10, {.max_ejected_share = 0.5});
    for (uint64_t server = 0; server < c.unusable; ++server) {
      detector_->SetUsable(server, false, clock_.Now());
    }
    for (size_t server = 0; server < 10; ++server) Calls(server, 5, false);
    Sweep();
    EXPECT_EQ(detector_->ejected(), c.ejected);
    EXPECT_EQ(detector_->ejections_refused(), 10 - c.unusable - c.ejected);
  }
}

TEST_F(OutlierDetectorTest, ARemovedServerMakesRoomForAnother) {
  Create(3);
  Calls(0, 5, false);
  Calls(1, 5, false);
  Sweep();
  EXPECT_EQ(detector_->ejected(), 1);
  detector_->Remove(detector_->is_ejected(0) ? 0 : 1);
  detector_->Remove(77);
  EXPECT_EQ(detector_->ejected(), 0);
  Sweep();
  // One of two.
  EXPECT_EQ(detector_->ejected(), 1);
}

TEST_F(OutlierDetectorTest, HasNothingToDoWithoutServers) {
  Create(0);
  EXPECT_TRUE(Sweep().empty());
  EXPECT_EQ(detector_->next_sweep(), transport::Instant::Infinite());
  EXPECT_EQ(detector_->weight_factor(1), 1);
  EXPECT_FALSE(detector_->is_ejected(1));
}

TEST_F(OutlierDetectorTest, RefusesOptionsOutOfBounds) {
  struct Case {
    const char* name;
    Options options;
    const char* message;
  };
  const Case kCases[] = {
      {"failures", {.max_failure_share = 2}, "max_failure_share is 2, must be in [0, 1]"},
      {"ejected", {.max_ejected_share = -1}, "max_ejected_share is -1, must be in [0, 1]"},
      {"factor", {.first_factor = 1.5}, "first_factor is 1.5"},
      {"window", {.window = absl::ZeroDuration()}, "window is 0, must be over 0"},
      {"interval", {.sweep_interval = absl::Seconds(-1)}, "sweep_interval is -1s, must be over 0"},
      {"times", {.max_ejection = absl::Seconds(1)}, "max_ejection is 1s, must be at least base_ejection, 2s"},
      {"latency", {.max_latency_factor = 0.5}, "max_latency_factor is 0.5, must be 0 or over 1"},
      {"ramp", {.ramp_time = absl::Seconds(-1)}, "ramp_time is -1s, must not be negative"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(OutlierDetector::Check(c.options).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(OutlierDetector::Check(c.options).message(), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace ferry
