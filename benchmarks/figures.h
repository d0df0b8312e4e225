// What is read off a measurement, by name.
#ifndef FERRY_BENCHMARKS_FIGURES_H_
#define FERRY_BENCHMARKS_FIGURES_H_

#include <optional>
#include <string_view>

#include "absl/types/span.h"
#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

// A Figure is one number of a measurement: a value.
struct Figure {
  // In JSON, in bounds, and in README.md, which says what it means.
  std::string_view name;
  // Above its column of the table; empty if it has none there.
  std::string_view heading;
  // Digits after the point.
  int decimals;
  // Nothing if it was not measured.
  std::optional<double> (*of)(const Measurement&);
};

// All figures, in the order in which they are printed.
absl::Span<const Figure> Figures();

// REQUIRES: there is one of that name.
const Figure& FigureNamed(std::string_view name);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_FIGURES_H_
