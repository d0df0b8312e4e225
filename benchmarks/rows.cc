#include "ferry/benchmarks/rows.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry::bench {
namespace {

constexpr std::pair<std::string_view, Workload> kWorkloads[] = {
    {"unary", Workload::kUnary},
    {"executor", Workload::kExecutor},
    {"later", Workload::kLater},
};
constexpr std::pair<std::string_view, Transport> kTransports[] = {
    {"tcp", Transport::kTcp},
    {"unix", Transport::kUnix},
};

template <typename Table, typename Value>
std::string_view NameIn(const Table& table, Value value) {
  return std::find_if(std::begin(table), std::end(table), [&](auto& e) { return e.second == value; })->first;
}

template <typename Value, size_t kSize>
absl::StatusOr<Value> ParseIn(const std::pair<std::string_view, Value> (&table)[kSize], const char* what,
                              std::string_view name) {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no ", what, " ", std::string(name)));
}

// What makes two rows the same work, but for the workload.
auto Shape(const Row& row) {
  return std::tuple(row.transport, row.work.connections, row.work.in_flight, row.work.payload);
}

}  // namespace

std::string_view Name(Workload workload) { return NameIn(kWorkloads, workload); }
std::string_view Name(Transport transport) { return NameIn(kTransports, transport); }
absl::StatusOr<Workload> ParseWorkload(std::string_view name) {
  return ParseIn(kWorkloads, "workload", name);
}
absl::StatusOr<Transport> ParseTransport(std::string_view name) {
  return ParseIn(kTransports, "transport", name);
}

std::vector<Row> StandardRows() {
  std::vector<Row> rows;
  for (const auto& [group, workload] :
       {std::pair('A', Workload::kUnary), {'B', Workload::kExecutor}, {'C', Workload::kLater}}) {
    int number = 0;
    for (const int in_flight : {1, 128}) {
      for (const Transport transport : {Transport::kTcp, Transport::kUnix}) {
        const Work work{.workload = workload, .in_flight = in_flight};
        rows.push_back({absl::StrCat(std::string(1, group), ++number), transport, work});
      }
    }
  }
  return rows;
}

absl::StatusOr<std::vector<Row>> FindRows(absl::Span<const std::string> names) {
  std::vector<Row> found;
  for (const std::string& name : names) {
    const size_t before = found.size();
    for (Row& row : StandardRows()) {
      if (row.name == name || row.name.substr(0, 1) == name) found.push_back(std::move(row));
    }
    if (found.size() == before) return absl::InvalidArgumentError(absl::StrCat("there is no row ", name));
  }
  return found;
}

void NameRow(Row& row) {
  for (const Row& standard : StandardRows()) {
    if (Shape(row) == Shape(standard) && row.work.workload == standard.work.workload)
      row.name = standard.name;
  }
}

double Result::calls_per_second() const {
  return static_cast<double>(measured.calls) * 1e9 / static_cast<double>(measured.nanos);
}

std::optional<double> RatioTo(std::string_view implementation, const Result& result,
                              absl::Span<const Result> results) {
  const Result* other = nullptr;
  for (const Result& candidate : results) {
    if (candidate.implementation != implementation || Shape(candidate.row) != Shape(result.row)) continue;
    const Workload workload = candidate.row.work.workload;
    if (workload == result.row.work.workload || (other == nullptr && workload == Workload::kUnary))
      other = &candidate;
  }
  if (other == nullptr) return std::nullopt;
  return result.calls_per_second() / other->calls_per_second();
}

}  // namespace ferry::bench
