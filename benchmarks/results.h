// What rows came to, and whether that is what was wanted.
#ifndef FERRY_BENCHMARKS_RESULTS_H_
#define FERRY_BENCHMARKS_RESULTS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "ferry/benchmarks/figures.h"
#include "ferry/benchmarks/meter.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {

// A Result is a row as one implementation did it: a value.
struct Result {
  Row row;
  std::string implementation;
  // One for each round; at least one.
  std::vector<Measurement> rounds;
};

// The median over the rounds; nothing if the figure was not measured.
std::optional<double> Value(const Result& result, const Figure& figure);

// The median over the rounds of this figure of `result` over the same of `other`. What happens to the machine
// in one round happens to both.
std::optional<double> Ratio(const Result& result, const Result& other, const Figure& figure);

// The result of the same row by `to`, an implementation or one of Bound's words; nullptr if there is none.
const Result* Compared(const Result& result, std::string_view to, absl::Span<const Result> results);

// A Verdict is a bound of `result`'s row and what came of it: a value.
struct Verdict {
  Bound bound;
  std::optional<double> value;
  // The value, or the ratio if the bound speaks of one; nothing if there is nothing to compare with.
  std::optional<double> judged;

  bool met() const;
};

// On each bound of the row; none unless `result` is by the row's first implementation.
std::vector<Verdict> Judge(const Result& result, absl::Span<const Result> results);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_RESULTS_H_
