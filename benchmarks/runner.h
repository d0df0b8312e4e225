// Runs rows: a server process each, and its client here.
#ifndef FERRY_BENCHMARKS_RUNNER_H_
#define FERRY_BENCHMARKS_RUNNER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/benchmarks/meter.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {

struct RunOptions {
  Meter::Options meter;
  // How often everything is run, in turn; of each row's results the median by calls per second is kept.
  int rounds = 1;
};

// Runs each row with each implementation, one after the other, servers through ServerProcess with the
// arguments
// --role=server, --impl and --listen. Says on standard error what is being run, if that is a terminal.
absl::StatusOr<std::vector<Result>> RunRows(absl::Span<const Row> rows,
                                            absl::Span<const std::string> implementations,
                                            const RunOptions& options);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_RUNNER_H_
