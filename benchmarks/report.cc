#include "ferry/benchmarks/report.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace ferry::bench {
namespace {

// JSON's word for a ratio to something that was not run.
constexpr char kNothing[] = "null";

// A Column is one figure, or word, of a result, under the name it has in the table and the one it has in
// JSON.
struct Column {
  const char* heading;
  const char* json;
  std::string text;
  bool is_word = false;
};

std::string Quotient(std::optional<double> ratio) {
  return ratio.has_value() ? absl::StrFormat("%.3f", *ratio) : kNothing;
}

std::string Micros(const Result& result, double share) {
  return absl::StrFormat("%.1f", static_cast<double>(result.measured.latency.Percentile(share)) / 1000);
}

std::vector<Column> WorkColumns(const Result& result) {
  const Work& work = result.row.work;
  return {
      {"row", "row", result.row.name, true},
      {"workload", "workload", std::string(Name(work.workload)), true},
      {"transport", "transport", std::string(Name(result.row.transport)), true},
      {"conns", "connections", absl::StrCat(work.connections)},
      {"in flight", "in_flight", absl::StrCat(work.in_flight)},
      {"bytes", "payload_bytes", absl::StrCat(work.payload)},
      {"implementation", "implementation", result.implementation, true},
  };
}

std::vector<Column> Columns(const Result& result, absl::Span<const Result> all) {
  const Measurement& m = result.measured;
  std::vector<Column> columns = WorkColumns(result);
  const Column figures[] = {
      {"calls/s", "calls_per_second", absl::StrFormat("%.0f", result.calls_per_second())},
      {"p50 us", "p50_us", Micros(result, 0.5)},
      {"p99", "p99_us", Micros(result, 0.99)},
      {"p99.9", "p999_us", Micros(result, 0.999)},
      {"cpu c", "client_cpu_seconds_per_million_calls", absl::StrFormat("%.2f", result.CpuSeconds(m.client))},
      {"cpu s", "server_cpu_seconds_per_million_calls", absl::StrFormat("%.2f", result.CpuSeconds(m.server))},
      {"heap c", "client_heap_allocations_per_call",
       absl::StrFormat("%.2f", result.PerCall(m.client.heap_allocations))},
      {"heap s", "server_heap_allocations_per_call",
       absl::StrFormat("%.2f", result.PerCall(m.server.heap_allocations))},
      {"sys c", "client_syscalls_per_call", absl::StrFormat("%.2f", result.PerCall(m.client.syscalls))},
      {"sys s", "server_syscalls_per_call", absl::StrFormat("%.2f", result.PerCall(m.server.syscalls))},
      {"/floor", "floor_ratio", Quotient(RatioTo("floor", result, all))},
      {"/polling", "floor_polling_ratio", Quotient(RatioTo("floor-polling", result, all))},
      {"/grpc", "grpc_ratio", Quotient(RatioTo("grpc", result, all))},
  };
  columns.insert(columns.end(), std::begin(figures), std::end(figures));
  return columns;
}

// Words stand to the left, figures to the right.
std::string Cell(const Column& column, std::string_view text, size_t width) {
  const std::string space(width - text.size(), ' ');
  return column.is_word ? std::string(text) + space : space + std::string(text);
}

}  // namespace

std::string Table(absl::Span<const Result> results) {
  if (results.empty()) return "";
  std::vector<std::vector<Column>> lines;
  for (const Result& result : results) lines.push_back(Columns(result, results));
  lines.insert(lines.begin(), lines.front());
  for (Column& column : lines.front()) column.text = column.heading;
  std::vector<size_t> widths(lines.front().size());
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].text.size());
  }
  std::string table;
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string_view text = line[i].text == kNothing ? "-" : std::string_view(line[i].text);
      absl::StrAppend(&table, Cell(line[i], text, widths[i]), i + 1 == line.size() ? "\n" : "  ");
    }
  }
  return table;
}

std::string Json(absl::Span<const Result> results) {
  std::string lines;
  for (const Result& result : results) {
    const std::string fields =
        absl::StrJoin(Columns(result, results), ", ", [](std::string* out, const Column& column) {
          const char* quote = column.is_word ? "\"" : "";
          absl::StrAppend(out, "\"", column.json, "\": ", quote, column.text, quote);
        });
    absl::StrAppend(&lines, "{", fields, "}\n");
  }
  return lines;
}

}  // namespace ferry::bench
