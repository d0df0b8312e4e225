#include "ferry/benchmarks/report.h"

#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "ferry/benchmarks/text_table.h"

namespace ferry::bench {
namespace {

// The ratios of calls per second that every result has.
constexpr std::pair<std::string_view, std::string_view> kRatios[] = {
    {"floor", "floor_ratio"},
    {"floor-polling", "floor_polling_ratio"},
    {"grpc", "grpc_ratio"},
};

// A Field is one word, or number, of a row, under the name it has in tables and the one it has in JSON.
struct Field {
  std::string heading;
  std::string json;
  std::string text;
  bool is_word = false;
};

// What tells rows apart.
std::vector<Field> WorkFields(const Row& row) {
  const Work& work = row.work;
  return {
      {"row", "row", row.name, true},
      {"workload", "workload", std::string(Name(work.workload)), true},
      {"transport", "transport", std::string(Name(row.transport)), true},
      {"conns", "connections", absl::StrCat(work.connections)},
      {"in flight", "in_flight", absl::StrCat(work.in_flight)},
      {"threads", "threads", absl::StrCat(work.threads)},
      {"bytes", "payload_bytes", absl::StrCat(work.payload)},
      {"beside", "beside", std::string(Name(work.beside)), true},
      {"reply", "reply", work.fresh_reply ? "fresh" : "reused", true},
  };
}

std::string Text(std::optional<double> number, int decimals, const char* nothing) {
  return number.has_value() && std::isfinite(*number) ? absl::StrFormat("%.*f", decimals, *number) : nothing;
}

std::optional<double> CallsRatio(const Result& result, std::string_view to, absl::Span<const Result> all) {
  const Result* const other = Compared(result, to, all);
  if (other == nullptr) return std::nullopt;
  return Ratio(result, *other, FigureNamed("calls_per_second"));
}

std::vector<TextTable::Column> Headings(const std::vector<Field>& fields) {
  std::vector<TextTable::Column> columns;
  columns.reserve(fields.size());
  for (const Field& field : fields) columns.push_back({field.heading, field.is_word});
  return columns;
}

std::vector<std::string> Cells(const std::vector<Field>& fields) {
  std::vector<std::string> cells;
  cells.reserve(fields.size());
  for (const Field& field : fields) cells.push_back(field.text);
  return cells;
}

// "<= 1.50"
std::string Wanted(const Bound& bound) {
  return absl::StrFormat("%s %.4g", bound.kind == Bound::Kind::kAtMost ? "<=" : ">=", bound.limit);
}

std::string JsonVerdict(const Verdict& verdict) {
  const Bound& bound = verdict.bound;
  return absl::StrFormat(
      R"({"figure": "%s", "to": "%s", "value": %s, "judged": %s, "wanted": "%s", "met": %s})",
      std::string(bound.figure), std::string(bound.to), Text(verdict.value, 3, "null"),
      Text(verdict.judged, 3, "null"), Wanted(bound),
      !verdict.judged.has_value() ? "null" : (verdict.met() ? "true" : "false"));
}

std::string JsonLine(const Result& result, absl::Span<const Result> all) {
  std::vector<std::string> fields;
  const auto add = [&](std::string_view name, std::string_view text) {
    fields.push_back(absl::StrCat("\"", std::string(name), "\": ", std::string(text)));
  };
  for (const Field& field : WorkFields(result.row)) {
    add(field.json, field.is_word ? absl::StrCat("\"", field.text, "\"") : field.text);
  }
  add("one_processor", result.row.work.one_processor ? "true" : "false");
  add("implementation", absl::StrCat("\"", result.implementation, "\""));
  add("rounds", absl::StrCat(result.rounds.size()));
  for (const Figure& figure : Figures())
    add(figure.name, Text(Value(result, figure), figure.decimals, "null"));
  for (const auto& [to, json] : kRatios) add(json, Text(CallsRatio(result, to, all), 3, "null"));
  std::vector<std::string> verdicts;
  for (const Verdict& verdict : Judge(result, all)) verdicts.push_back(JsonVerdict(verdict));
  add("bounds", absl::StrCat("[", absl::StrJoin(verdicts, ", "), "]"));
  return absl::StrCat("{", absl::StrJoin(fields, ", "), "}\n");
}

}  // namespace

std::string FigureTable(absl::Span<const Result> results) {
  std::vector<TextTable::Column> columns = Headings(WorkFields(Row()));
  columns.push_back({"implementation", true});
  for (const Figure& figure : Figures()) {
    if (!figure.heading.empty()) columns.push_back({std::string(figure.heading)});
  }
  for (const auto& [to, json] : kRatios) columns.push_back({absl::StrCat("/", std::string(to))});
  TextTable table(std::move(columns));
  for (const Result& result : results) {
    std::vector<std::string> cells = Cells(WorkFields(result.row));
    cells.push_back(result.implementation);
    for (const Figure& figure : Figures()) {
      if (!figure.heading.empty()) cells.push_back(Text(Value(result, figure), figure.decimals, "-"));
    }
    for (const auto& [to, json] : kRatios) cells.push_back(Text(CallsRatio(result, to, results), 3, "-"));
    table.Add(std::move(cells));
  }
  return table.Text();
}

std::string BoundTable(absl::Span<const Result> results) {
  std::vector<TextTable::Column> columns = Headings(WorkFields(Row()));
  for (const char* word : {"implementation", "figure"}) columns.push_back({word, true});
  columns.push_back({"value"});
  columns.push_back({"to", true});
  for (const char* number : {"ratio", "wanted"}) columns.push_back({number});
  columns.push_back({"met", true});
  TextTable table(std::move(columns));
  int bounds = 0, judged = 0, met = 0;
  for (const Result& result : results) {
    for (const Verdict& verdict : Judge(result, results)) {
      const Bound& bound = verdict.bound;
      const bool has_ratio = bound.to != Bound::kNothing;
      std::vector<std::string> cells = Cells(WorkFields(result.row));
      cells.push_back(result.implementation);
      cells.emplace_back(bound.figure);
      cells.push_back(Text(verdict.value, FigureNamed(bound.figure).decimals, "-"));
      cells.emplace_back(bound.to);
      cells.push_back(has_ratio ? Text(verdict.judged, 2, "-") : "");
      cells.push_back(Wanted(bound));
      cells.emplace_back(!verdict.judged.has_value() ? "no verdict" : (verdict.met() ? "yes" : "NO"));
      table.Add(std::move(cells));
      ++bounds;
      judged += verdict.judged.has_value();
      met += verdict.met();
    }
  }
  if (bounds == 0) return "";
  return absl::StrFormat("%s%d of %d bounds met, %d without a verdict\n", table.Text(), met, bounds,
                         bounds - judged);
}

std::string Json(absl::Span<const Result> results) {
  std::string lines;
  for (const Result& result : results) absl::StrAppend(&lines, JsonLine(result, results));
  return lines;
}

}  // namespace ferry::bench
