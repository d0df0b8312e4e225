#include "ferry/benchmarks/open_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/benchmarks/load_curve.h"

namespace ferry::bench {
namespace {

using testing::HasSubstr;

// Stands still but for sleeps, which take as long as they should and no time at all.
class ManualTime final : public Timekeeper {
 public:
  int64_t NowNanos() const override { return nanos_; }
  void SleepUntil(int64_t nanos) override { nanos_ = nanos; }
  void Advance(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  int64_t nanos_ = 1'000'000'000;
};

// Ends every call at once, with `status`; the call numbered `stall_at` takes 50 ms, and holds up the others.
class StallingCaller final : public Caller {
 public:
  StallingCaller(ManualTime& time, absl::Status status, int stall_at = -1)
      : time_(time), status_(std::move(status)), stall_at_(stall_at) {}

  void Start(const EchoRequest&, Done done) override {
    if (calls_++ == stall_at_) time_.Advance(absl::Milliseconds(50));
    std::move(done)(status_);
  }
  int calls() const { return calls_; }

 private:
  ManualTime& time_;
  const absl::Status status_;
  const int stall_at_;
  int calls_ = 0;
};

OpenLoopOptions TenWarmUpThenHundred() {
  return {.rate = 1000, .warm_up = absl::Milliseconds(10), .duration = absl::Milliseconds(100)};
}

TEST(OpenLoopTest, BeginsAsManyCallsAsAreDue) {
  ManualTime time;
  StallingCaller caller(time, absl::OkStatus());
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred(), time);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(caller.calls(), 110);
  EXPECT_EQ(measured->latency.count(), 100);
  EXPECT_EQ(measured->late.count(), 100);
  EXPECT_EQ(measured->offered_per_second, 1000);
}

TEST(OpenLoopTest, CountsAStallAgainstEveryCallThatItDelays) {
  ManualTime time;
  StallingCaller caller(time, absl::OkStatus(), 20);
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred(), time);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->latency.count(), 100);
  // Of 100 calls, a millisecond apart, 50 were due during the stall, the last of them just before its end:
  // they took 50, 49, 48 ... 1 ms. The histogram is good to a sixty-fourth.
  EXPECT_EQ(measured->latency.Percentile(0.49), 0);
  EXPECT_NEAR(static_cast<double>(measured->latency.Percentile(0.60)), 10e6, 1.2e6);
  EXPECT_NEAR(static_cast<double>(measured->latency.Percentile(1)), 50e6, 1e6);
  // The one that stalls begins in time.
  EXPECT_NEAR(static_cast<double>(measured->late.Percentile(1)), 49e6, 1e6);
}

TEST(OpenLoopTest, EndsWithTheFirstError) {
  ManualTime time;
  StallingCaller caller(time, absl::DataLossError("lost"));
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred(), time);
  EXPECT_EQ(measured.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_LT(caller.calls(), 5);
}

TEST(OpenLoopTest, RealTimePasses) {
  Timekeeper& time = Timekeeper::Real();
  const int64_t later = time.NowNanos() + 100'000;
  time.SleepUntil(later);
  EXPECT_GE(time.NowNanos(), later);
}

LoadPoint NewPoint(const std::string& implementation, double offered, double ended, int64_t nanos) {
  LoadPoint point{implementation, {}};
  point.measured.offered_per_second = offered;
  point.measured.ended_per_second = ended;
  point.measured.latency.Record(nanos);
  return point;
}

TEST(LoadCurveTest, WritesABlockForEachImplementationWhileItKeptUp) {
  const std::vector<LoadPoint> points = {
      NewPoint("ferry", 1000, 999, 50'000), NewPoint("grpc", 1000, 1000, 90'000),
      NewPoint("ferry", 2000, 2000, 60'000), NewPoint("grpc", 2000, 1500, 1'000'000)};
  EXPECT_THAT(LoadCurveData(points),
              testing::MatchesRegex("\"ferry\"\n1000 50.* 50.*\n2000 6.* 6.*\n\n\n\"grpc\"\n1000 9.* 9.*\n"));
}

TEST(LoadCurveTest, SaysWhoKeptUp) {
  const std::vector<LoadPoint> points = {NewPoint("ferry", 1000, 999, 50'000),
                                         NewPoint("grpc", 2000, 1500, 1'000)};
  EXPECT_THAT(LoadCurveTable(points), testing::ContainsRegex("\ngrpc +2000 +1500 .* NO\n"));
  const std::string json = LoadCurveJson(points);
  EXPECT_THAT(json, HasSubstr("\"offered_per_second\": 1000, \"ended_per_second\": 999, \"p50_us\": 50."));
  EXPECT_THAT(json, HasSubstr("\"kept_up\": false}\n"));
}

}  // namespace
}  // namespace ferry::bench
