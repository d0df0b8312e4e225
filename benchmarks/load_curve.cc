#include "ferry/benchmarks/load_curve.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ferry/benchmarks/runner.h"
#include "ferry/benchmarks/served.h"
#include "ferry/benchmarks/text_table.h"

namespace ferry::bench {
namespace {

struct Percentile {
  const char* heading;
  const char* json;
  double share;
};
constexpr Percentile kPercentiles[] = {
    {"p50 us", "p50_us", 0.5},   {"p90", "p90_us", 0.9}, {"p99", "p99_us", 0.99},
    {"p99.9", "p999_us", 0.999}, {"max", "max_us", 1},
};

std::string Micros(const Histogram& histogram, double share) {
  return absl::StrFormat("%.1f", static_cast<double>(histogram.Percentile(share)) / 1000);
}

absl::StatusOr<LoadPoint> Offer(const std::string& name, double rate, const Implementations& known,
                                const LoadCurveOptions& options) {
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "%s, %.0f calls a second\n", name.c_str(), rate);
  absl::StatusOr<std::unique_ptr<Implementation>> implementation = FindImplementation(known, name);
  if (!implementation.ok()) return implementation.status();
  absl::StatusOr<std::unique_ptr<Served>> served =
      Served::Start(name, options.transport, /*one_processor=*/false);
  if (!served.ok()) return served.status();
  absl::StatusOr<std::unique_ptr<Caller>> caller =
      (*implementation)->NewCaller((*served)->process().address());
  if (!caller.ok()) return caller.status();
  OpenLoopOptions open_loop = options.open_loop;
  open_loop.rate = rate;
  absl::StatusOr<OpenLoopMeasurement> measured = RunOpenLoop(**caller, open_loop);
  if (!measured.ok()) return measured.status();
  return LoadPoint{name, *std::move(measured)};
}

}  // namespace

absl::StatusOr<std::vector<LoadPoint>> RunLoadCurve(const Implementations& known,
                                                    const LoadCurveOptions& options) {
  std::vector<LoadPoint> points;
  std::vector<std::string> left = options.implementations;
  for (const double rate : options.rates) {
    for (const std::string& name : std::vector<std::string>(left)) {
      absl::StatusOr<LoadPoint> point = Offer(name, rate, known, options);
      if (!point.ok()) {
        return absl::Status(point.status().code(),
                            absl::StrCat(name, ", ", rate, " calls a second: ", point.status().message()));
      }
      if (!point->kept_up()) std::erase(left, name);
      points.push_back(*std::move(point));
    }
  }
  return points;
}

std::string LoadCurveTable(absl::Span<const LoadPoint> points) {
  std::vector<TextTable::Column> columns = {{"implementation", true}, {"offered/s"}, {"ended/s"}};
  for (const Percentile& percentile : kPercentiles) columns.push_back({percentile.heading});
  columns.push_back({"late p99"});
  columns.push_back({"kept up", true});
  TextTable table(std::move(columns));
  for (const LoadPoint& point : points) {
    const OpenLoopMeasurement& m = point.measured;
    std::vector<std::string> cells = {point.implementation, absl::StrFormat("%.0f", m.offered_per_second),
                                      absl::StrFormat("%.0f", m.ended_per_second)};
    for (const Percentile& percentile : kPercentiles) cells.push_back(Micros(m.latency, percentile.share));
    cells.push_back(Micros(m.late, 0.99));
    cells.emplace_back(point.kept_up() ? "yes" : "NO");
    table.Add(std::move(cells));
  }
  return table.Text();
}

std::string LoadCurveJson(absl::Span<const LoadPoint> points) {
  std::string lines;
  for (const LoadPoint& point : points) {
    const OpenLoopMeasurement& m = point.measured;
    absl::StrAppendFormat(&lines,
                          R"({"implementation": "%s", "offered_per_second": %.0f, "ended_per_second": %.0f)",
                          point.implementation, m.offered_per_second, m.ended_per_second);
    for (const Percentile& percentile : kPercentiles) {
      absl::StrAppendFormat(&lines, R"(, "%s": %s)", percentile.json, Micros(m.latency, percentile.share));
    }
    absl::StrAppendFormat(&lines,
                          R"(, "late_p99_us": %s, "kept_up": %s})"
                          "\n",
                          Micros(m.late, 0.99), point.kept_up() ? "true" : "false");
  }
  return lines;
}

std::string LoadCurveData(absl::Span<const LoadPoint> points) {
  std::vector<std::string> names;
  for (const LoadPoint& point : points) {
    if (std::find(names.begin(), names.end(), point.implementation) == names.end()) {
      names.push_back(point.implementation);
    }
  }
  std::string data;
  for (const std::string& name : names) {
    absl::StrAppend(&data, data.empty() ? "" : "\n\n", "\"", name, "\"\n");
    for (const LoadPoint& point : points) {
      if (point.implementation != name || !point.kept_up()) continue;
      absl::StrAppendFormat(&data, "%.0f %s %s\n", point.measured.offered_per_second,
                            Micros(point.measured.latency, 0.5), Micros(point.measured.latency, 0.99));
    }
  }
  return data;
}

}  // namespace ferry::bench
