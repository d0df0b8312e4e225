// Heap allocations as a figure of a micro benchmark.
#ifndef FERRY_BENCHMARKS_ALLOCATIONS_H_
#define FERRY_BENCHMARKS_ALLOCATIONS_H_

#include <benchmark/benchmark.h>

#include "ferry/benchmarks/event_counter.h"

namespace ferry::bench {

// An AllocationCount adds the counter "allocations", for each iteration, to a benchmark when it goes out of
// scope. Declared after what the benchmark sets up.
class AllocationCount {
 public:
  explicit AllocationCount(benchmark::State& state) : state_(state) {}
  ~AllocationCount() {
    state_.counters["allocations"] =
        benchmark::Counter(static_cast<double>(Total() - before_), benchmark::Counter::kAvgIterations);
  }
  AllocationCount(const AllocationCount&) = delete;
  AllocationCount& operator=(const AllocationCount&) = delete;

 private:
  static int64_t Total() { return EventCounter::Total(EventCounter::kHeapAllocations); }

  benchmark::State& state_;
  const int64_t before_ = Total();
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_ALLOCATIONS_H_
