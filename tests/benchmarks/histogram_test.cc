#include "ferry/benchmarks/histogram.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace ferry::bench {
namespace {

TEST(HistogramTest, KnowsSmallDurationsExactly) {
  Histogram histogram;
  for (int64_t nanos = 1; nanos <= 100; ++nanos) histogram.Record(nanos);
  EXPECT_EQ(histogram.count(), 100);
  EXPECT_EQ(histogram.Percentile(0), 1);
  EXPECT_EQ(histogram.Percentile(0.5), 50);
  EXPECT_EQ(histogram.Percentile(0.99), 99);
  EXPECT_EQ(histogram.Percentile(1), 100);
}

TEST(HistogramTest, IsNeverTooLowAndHardlyTooHigh) {
  for (const int64_t nanos : {int64_t{127}, int64_t{128}, int64_t{129}, int64_t{255}, int64_t{256},
                              int64_t{54321}, int64_t{987'654'321}, int64_t{123'456'789'012'345}}) {
    SCOPED_TRACE(nanos);
    Histogram histogram;
    histogram.Record(nanos);
    EXPECT_GE(histogram.Percentile(0.5), nanos);
    EXPECT_LE(static_cast<double>(histogram.Percentile(0.5)), static_cast<double>(nanos) * 1.016);
  }
}

TEST(HistogramTest, AddsWhatAnotherHasRecorded) {
  Histogram one, other;
  for (int64_t nanos = 1; nanos <= 50; ++nanos) one.Record(nanos);
  for (int64_t nanos = 51; nanos <= 100; ++nanos) other.Record(nanos);
  one.Add(other);
  EXPECT_EQ(one.count(), 100);
  EXPECT_EQ(one.Percentile(0.75), 75);
}

TEST(HistogramTest, TakesWhateverItIsGiven) {
  Histogram histogram;
  EXPECT_EQ(histogram.Percentile(0.5), 0);
  histogram.Record(-5);
  EXPECT_EQ(histogram.Percentile(1), 0);
  histogram.Record(std::numeric_limits<int64_t>::max());
  EXPECT_EQ(histogram.Percentile(1), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace ferry::bench
