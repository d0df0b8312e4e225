#include "ferry/benchmarks/caller_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ferry::bench {
namespace {

Meter NewMeter(int64_t max_calls) {
  return Meter({.warm_up = absl::ZeroDuration(), .duration = absl::Hours(1), .max_calls = max_calls},
               [] { return Mark{.nanos = NowNanos(), .client = {}, .server = {}}; });
}

TEST(CallerThreadsTest, EveryThreadCallsWithACallOfItsOwn) {
  constexpr int kThreads = 4;
  std::atomic<int> made = 0, called = 0;
  std::atomic<int> calling_now = 0;
  Meter meter = NewMeter(1000);
  const absl::Status status = RunCallers(kThreads, meter, [&]() -> BlockingEcho {
    ++made;
    return [&, first = true]() mutable {
      // Nobody goes on before everybody is there.
      if (std::exchange(first, false)) {
        ++calling_now;
        while (calling_now < kThreads) continue;
      }
      ++called;
      return absl::OkStatus();
    };
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(made, kThreads);
  EXPECT_GE(meter.measurement().calls, 1000);
  EXPECT_LE(meter.measurement().calls, called);
  EXPECT_LE(meter.measurement().latency.count(), meter.measurement().calls);
}

TEST(CallerThreadsTest, ReturnsTheErrorOfAnyThread) {
  std::atomic<int> made = 0;
  std::atomic<bool> failed = false;
  Meter meter = NewMeter(1'000'000'000);
  const absl::Status status = RunCallers(2, meter, [&]() -> BlockingEcho {
    // The first call made is for the other thread.
    if (++made == 1) {
      return [&] {
        failed = true;
        return absl::DataLossError("lost");
      };
    }
    return [&] { return failed ? absl::AbortedError("over") : absl::OkStatus(); };
  });
  EXPECT_FALSE(status.ok());
}

}  // namespace
}  // namespace ferry::bench
