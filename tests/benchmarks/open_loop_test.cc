#include "ferry/benchmarks/open_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/benchmarks/load_curve.h"

namespace ferry::bench {
namespace {

using testing::HasSubstr;

// Ends every call at once, with `status`; before the call numbered `stall_at` it does nothing for a while.
class StallingCaller final : public Caller {
 public:
  explicit StallingCaller(absl::Status status, int stall_at = -1)
      : status_(std::move(status)), stall_at_(stall_at) {}

  void Start(const EchoRequest&, Done done) override {
    if (calls_++ == stall_at_) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::move(done)(status_);
  }
  int calls() const { return calls_; }

 private:
  const absl::Status status_;
  const int stall_at_;
  int calls_ = 0;
};

OpenLoopOptions TenWarmUpThenHundred() {
  return {.rate = 1000, .warm_up = absl::Milliseconds(10), .duration = absl::Milliseconds(100)};
}

TEST(OpenLoopTest, BeginsAsManyCallsAsAreDue) {
  StallingCaller caller(absl::OkStatus());
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred());
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(caller.calls(), 110);
  EXPECT_EQ(measured->latency.count(), 100);
  EXPECT_EQ(measured->late.count(), 100);
  EXPECT_EQ(measured->offered_per_second, 1000);
}

TEST(OpenLoopTest, CountsAStallAgainstEveryCallThatItDelays) {
  StallingCaller caller(absl::OkStatus(), 20);
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred());
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->latency.count(), 100);
  // Of 100 calls, a millisecond apart, 50 were due during the stall: 40 of them at least 9 ms before its end.
  EXPECT_GE(measured->latency.Percentile(0.61), 9'000'000);
  EXPECT_GE(measured->late.Percentile(0.62), 9'000'000);
}

TEST(OpenLoopTest, EndsWithTheFirstError) {
  StallingCaller caller(absl::DataLossError("lost"));
  const auto measured = RunOpenLoop(caller, TenWarmUpThenHundred());
  EXPECT_EQ(measured.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_LT(caller.calls(), 5);
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
