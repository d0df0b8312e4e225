// The load program's flags: what to run, how long, and how to print it.
#ifndef FERRY_BENCHMARKS_LOAD_FLAGS_H_
#define FERRY_BENCHMARKS_LOAD_FLAGS_H_

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/load_curve.h"
#include "ferry/benchmarks/rows.h"
#include "ferry/benchmarks/runner.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, impl);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(bool, open_loop);
ABSL_DECLARE_FLAG(std::string, data);
ABSL_DECLARE_FLAG(std::string, role);
ABSL_DECLARE_FLAG(std::string, listen);
ABSL_DECLARE_FLAG(bool, one_processor);

namespace ferry::bench {

// The rows that --rows names, or those of the flags that describe work, or else all standard rows.
// INVALID_ARGUMENT if a flag makes no sense.
absl::StatusOr<std::vector<Row>> RowsOfFlags();

RunOptions OptionsOfFlags();

// For --open_loop. INVALID_ARGUMENT if a flag makes no sense.
absl::StatusOr<LoadCurveOptions> CurveOfFlags(const Implementations& known);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LOAD_FLAGS_H_
