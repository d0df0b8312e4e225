#include "ferry/benchmarks/load_flags.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

using Words = std::vector<std::string>;

ABSL_FLAG(Words, rows, {}, "the standard rows to run (A1,B); all, if no flag says what else to do");
ABSL_FLAG(Words, workloads, {}, "instead of rows: what the server does: unary, executor, later");
ABSL_FLAG(Words, workload, {}, "the same as --workloads");
ABSL_FLAG(Words, transports, {}, "instead of rows: tcp, unix");
ABSL_FLAG(Words, connections, {}, "instead of rows: how many connections");
ABSL_FLAG(Words, in_flight, {}, "instead of rows: how many calls each connection keeps going");
ABSL_FLAG(Words, threads, {}, "instead of rows: how many threads call on one connection");
ABSL_FLAG(Words, payload, {}, "instead of rows: how many bytes each request and each reply carries");
ABSL_FLAG(Words, impl, {}, "what to run instead of what the rows name; README.md lists them");
ABSL_FLAG(double, seconds, 0.6, "how long each row is measured in a round");
ABSL_FLAG(double, warm_up, 0.15, "for how many seconds each row is called before");
ABSL_FLAG(int64_t, calls, 0, "ends measuring a row after so many calls; 0 is no limit");
ABSL_FLAG(int, rounds, 5, "how often to run everything; medians are printed");
ABSL_FLAG(bool, json, false, "print one JSON object for each line instead of tables");
ABSL_FLAG(bool, smoke, false, "run 300 calls of each row, once; or a moment of the lowest rate");
ABSL_FLAG(bool, open_loop, false,
          "instead of rows: calls at fixed rates, whether or not earlier ones have ended");
ABSL_FLAG(Words, rates,
          Words({"500", "1000", "2000", "5000", "7000", "10000", "15000", "20000", "30000", "50000", "70000",
                 "100000", "150000", "200000", "300000", "500000", "700000", "1000000"}),
          "for --open_loop: calls a second, ascending");
ABSL_FLAG(std::string, data, "", "for --open_loop: a file to write for load_curve.gp");
ABSL_FLAG(std::string, role, "", "set to \"server\" by the program itself, for its server processes");
ABSL_FLAG(std::string, listen, "", "where that server listens");
ABSL_FLAG(bool, one_processor, false, "whether that server keeps to one processor");

namespace ferry::bench {
namespace {

constexpr int64_t kSmokeCalls = 300;

absl::StatusOr<int> ParseNumber(std::string_view text) {
  int number;
  if (!absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &number) || number < 1) {
    return absl::InvalidArgumentError(absl::StrCat("not a positive number: ", std::string(text)));
  }
  return number;
}

// A Product is every combination of the values that flags name: each Cross multiplies.
class Product {
 public:
  struct Line {
    Transport transport = Transport::kTcp;
    Work work;
  };

  // `set` puts each value of `names`, or of `otherwise` if they are none, into a line. The first error stays.
  template <typename Value, typename Set>
  void Cross(const Words& names, const Words& otherwise, absl::StatusOr<Value> (*parse)(std::string_view),
             Set set) {
    std::vector<Line> product;
    for (const Line& line : lines_) {
      for (const std::string& name : names.empty() ? otherwise : names) {
        const absl::StatusOr<Value> value = parse(name);
        status_.Update(value.status());
        if (value.ok()) set(product.emplace_back(line), *value);
      }
    }
    lines_ = std::move(product);
  }

  const absl::Status& status() const { return status_; }
  const std::vector<Line>& lines() const { return lines_; }

 private:
  std::vector<Line> lines_ = {Line()};
  absl::Status status_;
};

absl::StatusOr<std::vector<Row>> DescribedRows() {
  using Line = Product::Line;
  Product product;
  const Words workloads =
      absl::GetFlag(absl::GetFlag(FLAGS_workload).empty() ? FLAGS_workloads : FLAGS_workload);
  product.Cross(workloads, {"unary"}, ParseWorkload, [](Line& l, Workload w) { l.work.workload = w; });
  product.Cross(absl::GetFlag(FLAGS_payload), {"64"}, ParseNumber,
                [](Line& l, int n) { l.work.payload = static_cast<size_t>(n); });
  product.Cross(absl::GetFlag(FLAGS_connections), {"1"}, ParseNumber,
                [](Line& l, int n) { l.work.connections = n; });
  product.Cross(absl::GetFlag(FLAGS_in_flight), {"1", "128"}, ParseNumber,
                [](Line& l, int n) { l.work.in_flight = n; });
  product.Cross(absl::GetFlag(FLAGS_threads), {"1"}, ParseNumber, [](Line& l, int n) { l.work.threads = n; });
  product.Cross(absl::GetFlag(FLAGS_transports), {"tcp", "unix"}, ParseTransport,
                [](Line& l, Transport t) { l.transport = t; });
  if (!product.status().ok()) return product.status();
  std::vector<Row> rows;
  for (const Line& line : product.lines()) {
    if (line.work.threads > 1 && !line.work.blocking()) {
      return absl::InvalidArgumentError("several threads call with one connection and one call in flight");
    }
    rows.push_back(RowOf(line.transport, line.work, {"ferry", "floor", "floor-polling"}));
  }
  return rows;
}

}  // namespace

absl::StatusOr<std::vector<Row>> RowsOfFlags() {
  if (const Words names = absl::GetFlag(FLAGS_rows); !names.empty()) return FindRows(names);
  const auto given = [](const auto& flag) { return !absl::GetFlag(flag).empty(); };
  if (given(FLAGS_workloads) || given(FLAGS_workload) || given(FLAGS_transports) ||
      given(FLAGS_connections) || given(FLAGS_in_flight) || given(FLAGS_threads) || given(FLAGS_payload)) {
    return DescribedRows();
  }
  return StandardRows();
}

RunOptions OptionsOfFlags() {
  RunOptions options{.meter = {}, .implementations = absl::GetFlag(FLAGS_impl)};
  if (absl::GetFlag(FLAGS_smoke)) {
    options.meter = {
        .warm_up = absl::ZeroDuration(), .duration = absl::Seconds(20), .max_calls = kSmokeCalls};
    return options;
  }
  options.rounds = std::max(1, absl::GetFlag(FLAGS_rounds));
  options.meter.warm_up = absl::Seconds(absl::GetFlag(FLAGS_warm_up));
  options.meter.duration = absl::Seconds(absl::GetFlag(FLAGS_seconds));
  if (const int64_t calls = absl::GetFlag(FLAGS_calls); calls > 0) options.meter.max_calls = calls;
  return options;
}

absl::StatusOr<LoadCurveOptions> CurveOfFlags(const Implementations& known) {
  LoadCurveOptions options;
  options.implementations = absl::GetFlag(FLAGS_impl);
  if (options.implementations.empty()) {
    for (const NamedImplementation& one : known) {
      if (one.name == "ferry" || one.name == "grpc") options.implementations.emplace_back(one.name);
    }
  }
  if (const Words transports = absl::GetFlag(FLAGS_transports); !transports.empty()) {
    const absl::StatusOr<Transport> transport = ParseTransport(transports.front());
    if (!transport.ok()) return transport.status();
    options.transport = *transport;
  }
  for (const std::string& word : absl::GetFlag(FLAGS_rates)) {
    const absl::StatusOr<int> rate = ParseNumber(word);
    if (!rate.ok()) return rate.status();
    options.rates.push_back(*rate);
  }
  options.open_loop.duration = absl::Seconds(std::max(1.0, absl::GetFlag(FLAGS_seconds)));
  if (absl::GetFlag(FLAGS_smoke)) {
    options.rates.resize(std::min<size_t>(1, options.rates.size()));
    options.open_loop.warm_up = absl::ZeroDuration();
    options.open_loop.duration = absl::Milliseconds(100);
  }
  return options;
}

}  // namespace ferry::bench
