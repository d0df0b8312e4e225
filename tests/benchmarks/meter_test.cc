#include "ferry/benchmarks/meter.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "absl/time/time.h"

namespace ferry::bench {
namespace {

constexpr Meter::Options kTenThenHundred = {
    .warm_up = absl::Nanoseconds(10), .duration = absl::Nanoseconds(100), .max_calls = INT64_MAX};

// Marks are taken at the time that the test says it is, and have used a nanosecond of the client's processor
// and two of the server's for each that has passed.
class MeterTest : public testing::Test {
 protected:
  Meter NewMeter(const Meter::Options& options) {
    return Meter(options, [this] {
      return Mark{.nanos = now_,
                  .client = {.cpu_nanos = now_, .heap_allocations = 0, .syscalls = 0},
                  .server = {.cpu_nanos = 2 * now_, .heap_allocations = 0, .syscalls = 0}};
    });
  }

  // A call that takes `nanos`.
  bool Call(Meter& meter, int64_t nanos) {
    const int64_t start = now_;
    now_ += nanos;
    return meter.GoOn(start, now_);
  }

  int64_t now_ = 1000;
};

TEST_F(MeterTest, MeasuresWhatEndsBetweenTheMarks) {
  Meter meter = NewMeter(kTenThenHundred);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Call(meter, 5));  // the third ends the warming up
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(Call(meter, 20));
  EXPECT_FALSE(Call(meter, 30));
  const Measurement& measured = meter.measurement();
  EXPECT_EQ(measured.calls, 5);
  EXPECT_EQ(measured.nanos, 110);
  EXPECT_EQ(measured.client.cpu_nanos, 110);
  EXPECT_EQ(measured.server.cpu_nanos, 220);
  EXPECT_EQ(measured.latency.count(), 5);
  EXPECT_EQ(measured.latency.Percentile(0.5), 20);
  EXPECT_EQ(measured.latency.Percentile(1), 30);
}

TEST_F(MeterTest, StaysOverOnceItIs) {
  Meter meter = NewMeter(kTenThenHundred);
  Call(meter, 1);
  Call(meter, 10);
  EXPECT_FALSE(Call(meter, 200));
  EXPECT_FALSE(Call(meter, 1));
  EXPECT_EQ(meter.measurement().calls, 1);
}

TEST_F(MeterTest, StopsAfterSoManyCalls) {
  Meter meter = NewMeter({.warm_up = absl::ZeroDuration(), .duration = absl::Hours(1), .max_calls = 2});
  EXPECT_TRUE(Call(meter, 1));
  EXPECT_TRUE(Call(meter, 1));
  EXPECT_FALSE(Call(meter, 1));
  EXPECT_EQ(meter.measurement().calls, 2);
}

TEST_F(MeterTest, CountsButDoesNotTimeCallsThatBeganBeforeTheFirstMark) {
  Meter meter = NewMeter(kTenThenHundred);
  const int64_t early = now_;
  Call(meter, 1);
  Call(meter, 10);
  EXPECT_TRUE(meter.GoOn(early, now_ + 1));
  EXPECT_FALSE(Call(meter, 150));
  EXPECT_EQ(meter.measurement().calls, 2);
  EXPECT_EQ(meter.measurement().latency.count(), 1);
}

}  // namespace
}  // namespace ferry::bench
