// Which rows the load program runs, and what is wanted of them.
#ifndef FERRY_BENCHMARKS_ROWS_H_
#define FERRY_BENCHMARKS_ROWS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

enum class Transport { kTcp, kUnix };

// A Bound is something wanted of the first implementation of a row: a value.
struct Bound {
  // What a figure is put in proportion to, beside the names of implementations.
  static constexpr std::string_view kNothing = "";
  static constexpr std::string_view kFewerThreads = "fewer threads";  // the row before, for fewer threads

  enum class Kind { kAtMost, kAtLeast };

  // Names one of Figures().
  std::string_view figure;
  // The implementation whose figure on the same work it is divided by, or one of the words above.
  std::string_view to;
  Kind kind;
  double limit;
  // An implementation whose figure must be higher than that of `to`: otherwise something kept `to` from being
  // what it is for, and nothing is judged.
  std::string_view provided_below = "";
};

// A Row is work, those who do it, and what is wanted of the first of them: a value.
struct Row {
  // "A1"; empty if it is not one of the standard rows. Rows of one name differ in their transport or work.
  std::string name;
  Transport transport = Transport::kTcp;
  Work work = {};
  std::vector<std::string> implementations = {};
  std::vector<Bound> bounds = {};
  // Whether the first implementation is watched for a second after its last call.
  bool watch_rest = false;
};

// The rows that have names, in their order. README.md says what each is for.
std::vector<Row> StandardRows();

// The standard rows called `names`. INVALID_ARGUMENT if there is none of that name.
absl::StatusOr<std::vector<Row>> FindRows(absl::Span<const std::string> names);

// The first standard row of this work, or one without a name, run by `otherwise`.
Row RowOf(Transport transport, const Work& work, const std::vector<std::string>& otherwise);

// Whether both are the same work.
bool SameWork(const Row& a, const Row& b);

// "unary", "executor" and "later"; "tcp" and "unix".
std::string_view Name(Workload workload);
std::string_view Name(Transport transport);
// "nothing", "upload" and "download".
std::string_view Name(Beside beside);
absl::StatusOr<Workload> ParseWorkload(std::string_view name);
absl::StatusOr<Transport> ParseTransport(std::string_view name);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_ROWS_H_
