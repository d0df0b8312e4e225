// Which rows the load program runs, and what each came to.
#ifndef FERRY_BENCHMARKS_ROWS_H_
#define FERRY_BENCHMARKS_ROWS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

enum class Transport { kTcp, kUnix };

// A Row is one line of the table for each implementation: a value.
struct Row {
  // "A1"; empty if it is not one of the standard rows.
  std::string name;
  Transport transport = Transport::kTcp;
  Work work;
};

// The rows that have names, in their order. The letter is the group.
//
//   A   small unary calls answered on the loop: one in flight, then 128, over TCP and over a Unix socket
//   B   the same, answered on the executor
//   C   the same, answered later by another thread
std::vector<Row> StandardRows();

// The standard rows called `names`; a letter stands for its group. INVALID_ARGUMENT if there is none of that
// name.
absl::StatusOr<std::vector<Row>> FindRows(absl::Span<const std::string> names);

// Gives `row` the name of the standard row of the same work, if there is one.
void NameRow(Row& row);

// "unary", "executor" and "later"; "tcp" and "unix".
std::string_view Name(Workload workload);
std::string_view Name(Transport transport);
absl::StatusOr<Workload> ParseWorkload(std::string_view name);
absl::StatusOr<Transport> ParseTransport(std::string_view name);

// A Result is one line of the table: a value.
struct Result {
  Row row;
  std::string implementation;
  Measurement measured;

  double calls_per_second() const;
  // Of `count`, which is one side's: for each call measured.
  double PerCall(int64_t count) const {
    return static_cast<double>(count) / static_cast<double>(measured.calls);
  }
  // CPU-seconds for a million calls.
  double CpuSeconds(const Usage& side) const { return PerCall(side.cpu_nanos) / 1000; }
};

// The calls per second of `result` over those of `implementation` on the same work, if `results` have them. A
// workload that `implementation` was not run with is compared with its unary row: the floor knows no other.
std::optional<double> RatioTo(std::string_view implementation, const Result& result,
                              absl::Span<const Result> results);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_ROWS_H_
