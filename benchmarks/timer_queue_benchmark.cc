// Deadlines: armed for each call that has one, and nearly always cancelled.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <deque>
#include <random>

#include "ferry/benchmarks/allocations.h"
#include "ferry/transport/check.h"
#include "ferry/transport/timer_queue.h"

namespace ferry::bench {
namespace {

using transport::Instant;
using transport::Timer;
using transport::TimerQueue;

// A Timers is a queue with `count` timers, which count how often they run.
class Timers {
 public:
  explicit Timers(int64_t count) {
    for (int64_t i = 0; i < count; ++i) timers_.emplace_back([this] { ++runs_; });
  }

  TimerQueue& queue() { return queue_; }
  Timer& operator[](size_t i) { return timers_[i]; }
  size_t size() const { return timers_.size(); }
  int64_t runs() const { return runs_; }

  // A time within the first second.
  Instant Random() { return {static_cast<int64_t>(random_() % 1'000'000'000)}; }

 private:
  TimerQueue queue_;
  std::deque<Timer> timers_;
  int64_t runs_ = 0;
  std::minstd_rand random_{42};
};

void BM_ArmAndCancel(benchmark::State& state) {
  Timers timers(state.range(0));
  for (size_t i = 1; i < timers.size(); ++i) timers.queue().Arm(timers[i], timers.Random());
  AllocationCount count(state);
  for (auto _ : state) {
    timers.queue().Arm(timers[0], timers.Random());
    timers.queue().Cancel(timers[0]);
  }
}
BENCHMARK(BM_ArmAndCancel)->Arg(1)->Arg(128)->Arg(10'000);

// Deadlines of one length fall due in the order they were made: the usual case.
void BM_ArmLastAndCancelFirst(benchmark::State& state) {
  Timers timers(state.range(0));
  int64_t due = 0;
  for (size_t i = 0; i < timers.size(); ++i) timers.queue().Arm(timers[i], {++due});
  size_t first = 0;
  AllocationCount count(state);
  for (auto _ : state) {
    Timer& timer = timers[first];
    timers.queue().Cancel(timer);
    timers.queue().Arm(timer, {++due});
    if (++first == timers.size()) first = 0;
  }
}
BENCHMARK(BM_ArmLastAndCancelFirst)->Arg(1)->Arg(128)->Arg(10'000);

void BM_RunDue(benchmark::State& state) {
  Timers timers(state.range(0));
  for (size_t i = 1; i < timers.size(); ++i) timers.queue().Arm(timers[i], timers.Random());
  AllocationCount count(state);
  for (auto _ : state) {
    timers.queue().Arm(timers[0], {-1});
    timers.queue().RunDue({-1});
  }
  FERRY_CHECK(timers.runs() == static_cast<int64_t>(state.iterations()), "a timer did not run");
}
BENCHMARK(BM_RunDue)->Arg(1)->Arg(128)->Arg(10'000);

}  // namespace
}  // namespace ferry::bench
