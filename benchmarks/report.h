// Results as text.
#ifndef FERRY_BENCHMARKS_REPORT_H_
#define FERRY_BENCHMARKS_REPORT_H_

#include <string>

#include "absl/types/span.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {

// An aligned table: a heading, then a line for each result.
std::string Table(absl::Span<const Result> results);

// A JSON object on a line of its own for each result. benchmarks/README.md lists the fields; they are added
// to, never renamed. A ratio to something that was not run is null.
std::string Json(absl::Span<const Result> results);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_REPORT_H_
