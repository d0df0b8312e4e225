// One step of the cost ladder: something that calls are made of, and how long it takes here.
#ifndef FERRY_BENCHMARKS_LADDER_RUNG_H_
#define FERRY_BENCHMARKS_LADDER_RUNG_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "ferry/benchmarks/histogram.h"

namespace ferry::bench {

// How long to measure each rung.
struct LadderOptions {
  absl::Duration duration = absl::Milliseconds(300);
  // Measures everything once instead, to see that it works.
  bool once = false;
};

// A Rung is a name, what it stands for, and the nanoseconds it took each time: a value.
struct Rung {
  std::string name;
  std::string note;
  Histogram nanos;
};

using Rungs = std::vector<Rung>;

// Does `step` until the time is over. Steps shorter than the clock's own cost are timed `batch` at a time,
// and each batch is recorded as its average; a step that holds `parts` of what the rung is about counts for
// so many.
Rung Measure(std::string name, std::string note, const LadderOptions& options, absl::FunctionRef<void()> step,
             int batch = 1, int parts = 1);

// The same for steps that time themselves: `step` returns nanoseconds.
Rung MeasureTimed(std::string name, std::string note, const LadderOptions& options,
                  absl::FunctionRef<int64_t()> step);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LADDER_RUNG_H_
