// Results as text.
#ifndef FERRY_BENCHMARKS_REPORT_H_
#define FERRY_BENCHMARKS_REPORT_H_

#include <string>

#include "absl/types/span.h"
#include "ferry/benchmarks/results.h"

namespace ferry::bench {

// An aligned table of figures: a heading, then a line for each result.
std::string FigureTable(absl::Span<const Result> results);

// An aligned table of bounds: a heading, then a line for each bound of each row, and how many were met. Empty
// if the rows have none.
std::string BoundTable(absl::Span<const Result> results);

// A JSON object on a line of its own for each result. benchmarks/README.md lists the fields; they are added
// to, never renamed. A figure that was not measured and a ratio to something that was not run are null.
std::string Json(absl::Span<const Result> results);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_REPORT_H_
