// Runs rows: a server process each, and its client here.
#ifndef FERRY_BENCHMARKS_RUNNER_H_
#define FERRY_BENCHMARKS_RUNNER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/meter.h"
#include "ferry/benchmarks/results.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {

struct RunOptions {
  Meter::Options meter = {};
  // How often everything is run, in turn. At least 1.
  int rounds = 1;
  // Run every row with these; if empty, with those that the row names and that there are.
  std::vector<std::string> implementations = {};
};

// INVALID_ARGUMENT if there is none of that name.
absl::StatusOr<std::unique_ptr<Implementation>> FindImplementation(const Implementations& implementations,
                                                                   const std::string& name);

// How many times RunRows will run a server and a client.
size_t CountRuns(absl::Span<const Row> rows, const Implementations& known, const RunOptions& options);

// Runs each row with each of its implementations, one after the other, servers as Served does. Says on
// standard error what is being run, if that is a terminal.
absl::StatusOr<std::vector<Result>> RunRows(absl::Span<const Row> rows, const Implementations& known,
                                            const RunOptions& options);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_RUNNER_H_
