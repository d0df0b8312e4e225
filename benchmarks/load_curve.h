// Latency against offered load.
#ifndef FERRY_BENCHMARKS_LOAD_CURVE_H_
#define FERRY_BENCHMARKS_LOAD_CURVE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/open_loop.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {

struct LoadCurveOptions {
  std::vector<std::string> implementations;
  Transport transport = Transport::kTcp;
  // Calls a second, ascending.
  std::vector<double> rates;
  OpenLoopOptions open_loop = {};
};

// A LoadPoint is what one implementation did with one rate: a value.
struct LoadPoint {
  std::string implementation;
  OpenLoopMeasurement measured;

  // Whether calls ended as fast as they came, or nearly.
  bool kept_up() const { return measured.ended_per_second >= 0.95 * measured.offered_per_second; }
};

// Offers each rate to each implementation in turn. One that does not keep up is offered no more.
absl::StatusOr<std::vector<LoadPoint>> RunLoadCurve(const Implementations& known,
                                                    const LoadCurveOptions& options);

// An aligned table: a heading, then a line for each point.
std::string LoadCurveTable(absl::Span<const LoadPoint> points);

// A JSON object on a line of its own for each point. Fields are added to, never renamed.
std::string LoadCurveJson(absl::Span<const LoadPoint> points);

// For load_curve.gp: a block for each implementation, headed by its name; lines of offered calls a second and
// the 50th and 99th percentile in microseconds, as long as it kept up.
std::string LoadCurveData(absl::Span<const LoadPoint> points);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LOAD_CURVE_H_
