#include "ferry/benchmarks/ladder/rung.h"

#include <cstdint>
#include <utility>

#include "ferry/benchmarks/now.h"

namespace ferry::bench {

Rung Measure(std::string name, std::string note, const LadderOptions& options, absl::FunctionRef<void()> step,
             int batch, int parts) {
  const int steps = options.once ? 1 : batch;
  return MeasureTimed(std::move(name), std::move(note), options, [&] {
    const int64_t start = NowNanos();
    for (int i = 0; i < steps; ++i) step();
    return (NowNanos() - start) / (int64_t{steps} * parts);
  });
}

Rung MeasureTimed(std::string name, std::string note, const LadderOptions& options,
                  absl::FunctionRef<int64_t()> step) {
  Rung rung{std::move(name), std::move(note), {}};
  // The first time is not like the others.
  if (!options.once) step();
  const int64_t end = NowNanos() + absl::ToInt64Nanoseconds(options.duration);
  do {
    rung.nanos.Record(step());
  } while (!options.once && NowNanos() < end);
  return rung;
}

}  // namespace ferry::bench
