#include "ferry/benchmarks/results.h"

#include <algorithm>
#include <cstddef>

namespace ferry::bench {
namespace {

std::optional<double> Median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Whether `to`, with which `result` is compared, is below what the bound wants it to be below.
bool IsSound(const Bound& bound, const Result& to, const Result& result, absl::Span<const Result> results) {
  if (bound.provided_below.empty()) return true;
  const Result* const above = Compared(result, bound.provided_below, results);
  return above != nullptr && Ratio(to, *above, FigureNamed(bound.figure)).value_or(1) < 1;
}

}  // namespace

std::optional<double> Value(const Result& result, const Figure& figure) {
  std::vector<double> values;
  for (const Measurement& round : result.rounds) {
    if (const std::optional<double> value = figure.of(round)) values.push_back(*value);
  }
  return Median(std::move(values));
}

std::optional<double> Ratio(const Result& result, const Result& other, const Figure& figure) {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(result.rounds.size(), other.rounds.size()); ++i) {
    const std::optional<double> value = figure.of(result.rounds[i]);
    const std::optional<double> divisor = figure.of(other.rounds[i]);
    if (value.has_value() && divisor.value_or(0) != 0) ratios.push_back(*value / *divisor);
  }
  return Median(std::move(ratios));
}

const Result* Compared(const Result& result, std::string_view to, absl::Span<const Result> results) {
  const Result* found = nullptr;
  for (const Result& candidate : results) {
    if (candidate.row.name != result.row.name) continue;
    if (to != Bound::kFewerThreads) {
      if (candidate.implementation == to && SameWork(candidate.row, result.row)) found = &candidate;
      continue;
    }
    if (candidate.implementation != result.implementation) continue;
    Row row = candidate.row;
    row.work.threads = result.row.work.threads;
    if (!SameWork(row, result.row) || candidate.row.work.threads >= result.row.work.threads) continue;
    if (found == nullptr || candidate.row.work.threads > found->row.work.threads) found = &candidate;
  }
  return found;
}

bool Verdict::met() const {
  if (!judged.has_value()) return false;
  return bound.kind == Bound::Kind::kAtMost ? *judged <= bound.limit : *judged >= bound.limit;
}

std::vector<Verdict> Judge(const Result& result, absl::Span<const Result> results) {
  std::vector<Verdict> verdicts;
  if (result.row.implementations.empty() || result.implementation != result.row.implementations.front()) {
    return verdicts;
  }
  for (const Bound& bound : result.row.bounds) {
    const Figure& figure = FigureNamed(bound.figure);
    Verdict verdict{.bound = bound, .value = Value(result, figure), .judged = std::nullopt};
    if (bound.to == Bound::kNothing) {
      verdict.judged = verdict.value;
    } else if (const Result* other = Compared(result, bound.to, results)) {
      if (IsSound(bound, *other, result, results)) verdict.judged = Ratio(result, *other, figure);
    }
    verdicts.push_back(verdict);
  }
  return verdicts;
}

}  // namespace ferry::bench
