// The load program: calls between two processes, over sockets, and what they cost. README.md explains the
// columns.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ferry/benchmarks/implementations.h"
#include "ferry/benchmarks/report.h"
#include "ferry/benchmarks/rows.h"
#include "ferry/benchmarks/runner.h"
#include "ferry/benchmarks/server_process.h"

using Words = std::vector<std::string>;

ABSL_FLAG(Words, workloads, Words({"unary"}), "what the server does: unary, executor, later");
ABSL_FLAG(Words, workload, {}, "the same as --workloads");
ABSL_FLAG(Words, transports, Words({"tcp", "unix"}), "tcp, unix");
ABSL_FLAG(Words, connections, Words({"1"}), "how many connections");
ABSL_FLAG(Words, in_flight, Words({"1", "128"}), "how many calls each connection keeps going");
ABSL_FLAG(Words, payload, Words({"64"}), "how many bytes each request and each reply carries");
ABSL_FLAG(Words, rows, {}, "standard rows or groups of them (A1,B) instead of the six flags above");
ABSL_FLAG(Words, impl, Words({"ferry", "floor", "floor-polling"}),
          "what to run them with: ferry, floor, floor-polling");
ABSL_FLAG(double, seconds, 3, "how long each row is measured");
ABSL_FLAG(double, warm_up, 0.5, "for how many seconds each row is called before");
ABSL_FLAG(int64_t, calls, 0, "ends measuring a row after so many calls; 0 is no limit");
ABSL_FLAG(int, rounds, 1, "how often to run everything; the median by calls per second is kept");
ABSL_FLAG(bool, json, false, "print one JSON object for each line instead of a table");
ABSL_FLAG(bool, smoke, false, "run 300 calls of each row; all standard rows unless --rows says otherwise");
ABSL_FLAG(std::string, role, "", "set to \"server\" by the program itself, for its server processes");
ABSL_FLAG(std::string, listen, "", "where that server listens");

namespace ferry::bench {
namespace {

constexpr int64_t kSmokeCalls = 300;

// Each of `words` as a positive number.
absl::StatusOr<std::vector<int>> Numbers(const Words& words) {
  std::vector<int> numbers;
  for (const std::string& word : words) {
    int number;
    if (!absl::SimpleAtoi(word, &number) || number < 1) {
      return absl::InvalidArgumentError(absl::StrCat("not a positive number: ", word));
    }
    numbers.push_back(number);
  }
  return numbers;
}

// Every combination of `rows` and `values`, made by `set(row, value)`.
template <typename Value, typename Set>
std::vector<Row> Cross(const std::vector<Row>& rows, const std::vector<Value>& values, Set set) {
  std::vector<Row> product;
  for (const Row& row : rows) {
    for (const Value& value : values) set(product.emplace_back(row), value);
  }
  return product;
}

// Each of `names` as `parse` understands it.
template <typename Value>
absl::StatusOr<std::vector<Value>> Parsed(const Words& names,
                                          absl::StatusOr<Value> (*parse)(std::string_view)) {
  std::vector<Value> values;
  for (const std::string& name : names) {
    absl::StatusOr<Value> value = parse(name);
    if (!value.ok()) return value.status();
    values.push_back(*value);
  }
  return values;
}

absl::StatusOr<std::vector<Row>> RowsOfFlags() {
  if (const Words names = absl::GetFlag(FLAGS_rows); !names.empty()) return FindRows(names);
  if (absl::GetFlag(FLAGS_smoke)) return StandardRows();
  const Words workload_names = absl::GetFlag(FLAGS_workload);
  const auto workloads =
      Parsed(workload_names.empty() ? absl::GetFlag(FLAGS_workloads) : workload_names, ParseWorkload);
  if (!workloads.ok()) return workloads.status();
  const auto transports = Parsed(absl::GetFlag(FLAGS_transports), ParseTransport);
  if (!transports.ok()) return transports.status();
  const auto connections = Numbers(absl::GetFlag(FLAGS_connections));
  if (!connections.ok()) return connections.status();
  const auto in_flight = Numbers(absl::GetFlag(FLAGS_in_flight));
  if (!in_flight.ok()) return in_flight.status();
  const auto payload = Numbers(absl::GetFlag(FLAGS_payload));
  if (!payload.ok()) return payload.status();
  std::vector<Row> rows = {Row()};
  rows = Cross(rows, *workloads, [](Row& row, Workload workload) { row.work.workload = workload; });
  rows = Cross(rows, *payload, [](Row& row, int bytes) { row.work.payload = static_cast<size_t>(bytes); });
  rows = Cross(rows, *connections, [](Row& row, int count) { row.work.connections = count; });
  rows = Cross(rows, *in_flight, [](Row& row, int calls) { row.work.in_flight = calls; });
  rows = Cross(rows, *transports, [](Row& row, Transport transport) { row.transport = transport; });
  for (Row& row : rows) NameRow(row);
  return rows;
}

RunOptions OptionsOfFlags() {
  RunOptions options;
  options.rounds = std::max(1, absl::GetFlag(FLAGS_rounds));
  options.meter.warm_up = absl::Seconds(absl::GetFlag(FLAGS_warm_up));
  options.meter.duration = absl::Seconds(absl::GetFlag(FLAGS_seconds));
  if (const int64_t calls = absl::GetFlag(FLAGS_calls); calls > 0) options.meter.max_calls = calls;
  if (absl::GetFlag(FLAGS_smoke)) {
    options.meter = {
        .warm_up = absl::ZeroDuration(), .duration = absl::Seconds(20), .max_calls = kSmokeCalls};
  }
  return options;
}

// Ends the program, and so its server, when it has taken far longer than it should.
void LimitTime(const RunOptions& options, size_t runs) {
  constexpr absl::Duration kSpare = absl::Seconds(30);
  const absl::Duration limit =
      (options.meter.warm_up + options.meter.duration + kSpare) * static_cast<double>(runs) * options.rounds;
  signal(SIGALRM, [](int) {
    constexpr char kText[] = "load: not done in time, giving up\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, std::strlen(kText));
    _exit(1);
  });
  alarm(static_cast<unsigned>(absl::ToInt64Seconds(limit)));
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "load: %s\n", status.ToString().c_str());
  return 1;
}

int RunServer() {
  const Words names = absl::GetFlag(FLAGS_impl);
  absl::StatusOr<std::unique_ptr<Implementation>> implementation =
      FindImplementation(names.empty() ? "" : names.front());
  if (!implementation.ok()) return Fail(implementation.status());
  return ServerProcess::Serve((*implementation)->StartServer(absl::GetFlag(FLAGS_listen)));
}

int RunLoad() {
  const absl::StatusOr<std::vector<Row>> rows = RowsOfFlags();
  if (!rows.ok()) return Fail(rows.status());
  const Words implementations = absl::GetFlag(FLAGS_impl);
  const RunOptions options = OptionsOfFlags();
  LimitTime(options, rows->size() * implementations.size());
  const absl::StatusOr<std::vector<Result>> results = RunRows(*rows, implementations, options);
  if (!results.ok()) return Fail(results.status());
  std::fputs((absl::GetFlag(FLAGS_json) ? Json(*results) : Table(*results)).c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace ferry::bench

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "measures calls between a client and a server process. Without flags: rows A1 to A4.");
  absl::ParseCommandLine(argc, argv);
  return absl::GetFlag(FLAGS_role) == "server" ? ferry::bench::RunServer() : ferry::bench::RunLoad();
}
