#include "ferry/benchmarks/rest.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ferry/benchmarks/now.h"

namespace ferry::bench {
namespace {

TEST(RestTest, SeesAThreadThatNeverSleeps) {
  std::atomic<bool> stop = false;
  std::thread busy([&] {
    while (!stop) continue;
  });
  const Rest rest = WatchRest(NowNanos());
  stop = true;
  busy.join();
  EXPECT_GT(rest.cpu_nanos, 0);
  EXPECT_GT(rest.asleep_after_nanos, 0);
}

TEST(RestTest, DoesNotCountItsOwnThread) {
  const Rest rest = WatchRest(NowNanos());
  EXPECT_EQ(rest.cpu_nanos, 0);
  EXPECT_GE(rest.asleep_after_nanos, 0);
}

}  // namespace
}  // namespace ferry::bench
