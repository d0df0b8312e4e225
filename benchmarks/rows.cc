#include "ferry/benchmarks/rows.h"

#include <algorithm>
#include <iterator>
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

constexpr std::pair<std::string_view, Beside> kBesides[] = {
    {"nothing", Beside::kNothing},
    {"upload", Beside::kUpload},
    {"download", Beside::kDownload},
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

constexpr auto kAtMost = Bound::Kind::kAtMost;
constexpr auto kAtLeast = Bound::Kind::kAtLeast;

// Counts have this much room: a vector may still grow, once in thousands of calls, and the measurement itself
// makes a system call or two.
constexpr double kNone = 0.005;
constexpr double kOne = 1 + kNone;
constexpr double kTwo = 2 + kNone;
constexpr double kThree = 3 + kNone;

// One call in flight.
std::vector<Row> RowsOfOneCall(Transport transport) {
  return {
      {.name = "A1",
       .transport = transport,
       .work = {},
       .implementations = {"ferry", "ferry-blocking", "floor", "floor-polling", "grpc", "grpc-sync"},
       .bounds = {{"p50_us", "floor-polling", kAtMost, 1.5, "floor"},
                  {"p50_us", "grpc", kAtMost, 0.2},
                  {"p50_us", "grpc-sync", kAtMost, 0.2},
                  {"client_asleep_after_us", Bound::kNothing, kAtMost, 1000},
                  {"server_asleep_after_us", Bound::kNothing, kAtMost, 1000},
                  {"client_idle_cpu_us", Bound::kNothing, kAtMost, 0},
                  {"server_idle_cpu_us", Bound::kNothing, kAtMost, 0}},
       .watch_rest = true},
      {.name = "A2",
       .transport = transport,
       .work = {.one_processor = true},
       .implementations = {"ferry", "ferry-blocking", "floor"},
       .bounds = {{"p50_us", "floor", kAtMost, 1.4}, {"p50_us", "ferry-blocking", kAtMost, 1.1}}},
  };
}

// As many in flight as it takes to keep both sides busy.
std::vector<Row> RowsOfManyCalls(Transport transport) {
  return {
      {.name = "B",
       .transport = transport,
       .work = {.in_flight = 128},
       .implementations = {"ferry", "floor", "grpc", "grpc-sync"},
       .bounds = {{"calls_per_second", "floor", kAtLeast, 0.8},
                  {"client_cpu_seconds_per_million_calls", "floor", kAtMost, 1.3},
                  {"server_cpu_seconds_per_million_calls", "floor", kAtMost, 1.3},
                  {"calls_per_second", "grpc", kAtLeast, 8},
                  {"calls_per_second", "grpc-sync", kAtLeast, 8}}},
      {.name = "C",
       .transport = transport,
       .work = {.connections = 16, .in_flight = 8},
       .implementations = {"ferry", "floor"},
       .bounds = {{"calls_per_second", "floor", kAtLeast, 0.75}, {"p99_us", "floor", kAtMost, 2}}},
      {.name = "C",
       .transport = transport,
       .work = {.connections = 100, .in_flight = 8},
       .implementations = {"ferry", "floor"},
       .bounds = {{"calls_per_second", "floor", kAtLeast, 0.75}, {"p99_us", "floor", kAtMost, 2}}},
      {.name = "X",
       .transport = transport,
       .work = {.workload = Workload::kExecutor, .in_flight = 128},
       .implementations = {"ferry", "ferry-inline"},
       .bounds = {{"calls_per_second", "ferry-inline", kAtLeast, 0.4},
                  {"client_wake_ups_per_call", Bound::kNothing, kAtMost, kNone},
                  {"server_wake_ups_per_call", Bound::kNothing, kAtMost, 0.5}}},
  };
}

std::vector<Row> RowsAnsweredLater(Transport transport) {
  return {
      {.name = "D",
       .transport = transport,
       .work = {.workload = Workload::kLater},
       .implementations = {"ferry", "floor"}},
      {.name = "D",
       .transport = transport,
       .work = {.workload = Workload::kLater, .in_flight = 128},
       .implementations = {"ferry", "floor"}},
  };
}

std::vector<Row> RowsOfSystemCalls(Transport transport) {
  return {
      {.name = "S",
       .transport = transport,
       .work = {.in_flight = 128},
       .implementations = {"ferry"},
       .bounds = {{"client_syscalls_per_call", Bound::kNothing, kAtMost, 0.05},
                  {"server_syscalls_per_call", Bound::kNothing, kAtMost, 0.05},
                  {"client_wake_ups_per_call", Bound::kNothing, kAtMost, kNone},
                  {"server_wake_ups_per_call", Bound::kNothing, kAtMost, kNone}}},
      {.name = "S",
       .transport = transport,
       .work = {},
       .implementations = {"ferry-blocking"},
       .bounds = {{"client_syscalls_per_call", Bound::kNothing, kAtMost, kThree},
                  {"server_syscalls_per_call", Bound::kNothing, kAtMost, kThree},
                  {"client_waits_per_call", Bound::kNothing, kAtMost, kOne},
                  {"client_reads_per_call", Bound::kNothing, kAtMost, kOne},
                  {"client_writes_per_call", Bound::kNothing, kAtMost, kOne},
                  {"client_wake_ups_per_call", Bound::kNothing, kAtMost, kNone},
                  {"server_waits_per_call", Bound::kNothing, kAtMost, kOne},
                  {"server_reads_per_call", Bound::kNothing, kAtMost, kOne},
                  {"server_writes_per_call", Bound::kNothing, kAtMost, kOne},
                  {"server_wake_ups_per_call", Bound::kNothing, kAtMost, kNone}}},
  };
}

// Small calls while 64 MiB messages are under way on their connection: behind one fragment at most.
std::vector<Row> RowsBesideLarge(Transport transport) {
  std::vector<Row> rows;
  for (const Beside beside : {Beside::kUpload, Beside::kDownload}) {
    rows.push_back({.name = "F",
                    .transport = transport,
                    .work = {.beside = beside},
                    .implementations = {"ferry", "ferry-exclusive"},
                    .bounds = {{"p99_of_allowed", Bound::kNothing, kAtMost, 1}}});
  }
  return rows;
}

// The throughput of threads that share a channel never falls as they become more: not by more than 5%, which
// is what the same row differs by between two rounds.
std::vector<Row> RowsOfThreads() {
  std::vector<Row> rows;
  for (const int threads : {1, 2, 4, 8, 16, 32, 64}) {
    rows.push_back({.name = "M",
                    .work = {.threads = threads},
                    .implementations = {"ferry", "grpc", "grpc-sync"},
                    .bounds = {{"calls_per_second", "grpc", kAtLeast, 3},
                               {"calls_per_second", "grpc-sync", kAtLeast, 3}}});
    if (threads > 1) {
      rows.back().bounds.push_back({"calls_per_second", Bound::kFewerThreads, kAtLeast, 0.95});
    }
  }
  return rows;
}

// The four forms of a call. A fresh reply is itself two allocations: a string and the string's bytes.
std::vector<Row> RowsOfForms() {
  std::vector<Row> rows;
  for (const bool fresh_reply : {false, true}) {
    for (const int in_flight : {1, 128}) {
      rows.push_back({.name = "H",
                      .work = {.in_flight = in_flight, .fresh_reply = fresh_reply},
                      .implementations = {"ferry"},
                      .bounds = {{"client_heap_allocations_per_call", Bound::kNothing, kAtMost,
                                  fresh_reply ? kTwo : kNone},
                                 {"server_heap_allocations_per_call", Bound::kNothing, kAtMost, kNone}}});
    }
  }
  return rows;
}

// 36 bytes, and now and then a frame that is no call's.
const Row kWireRow = {.name = "W",
                      .implementations = {"ferry"},
                      .bounds = {{"wire_bytes_beyond_messages", Bound::kNothing, kAtMost, 36.05}}};

}  // namespace

std::string_view Name(Workload workload) { return NameIn(kWorkloads, workload); }
std::string_view Name(Beside beside) { return NameIn(kBesides, beside); }
std::string_view Name(Transport transport) { return NameIn(kTransports, transport); }
absl::StatusOr<Workload> ParseWorkload(std::string_view name) {
  return ParseIn(kWorkloads, "workload", name);
}
absl::StatusOr<Transport> ParseTransport(std::string_view name) {
  return ParseIn(kTransports, "transport", name);
}

std::vector<Row> StandardRows() {
  std::vector<Row> rows;
  const auto add = [&rows](std::vector<Row> more) {
    std::move(more.begin(), more.end(), std::back_inserter(rows));
  };
  for (const Transport transport : {Transport::kTcp, Transport::kUnix}) {
    for (const auto group :
         {RowsOfOneCall, RowsOfManyCalls, RowsAnsweredLater, RowsOfSystemCalls, RowsBesideLarge}) {
      add(group(transport));
    }
  }
  add(RowsOfThreads());
  add(RowsOfForms());
  rows.push_back(kWireRow);
  constexpr std::string_view kOrder[] = {"A1", "A2", "B", "C", "X", "D", "M", "H", "F", "S", "W"};
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    return std::find(std::begin(kOrder), std::end(kOrder), a.name) <
           std::find(std::begin(kOrder), std::end(kOrder), b.name);
  });
  return rows;
}

absl::StatusOr<std::vector<Row>> FindRows(absl::Span<const std::string> names) {
  std::vector<Row> found;
  for (const std::string& name : names) {
    const size_t before = found.size();
    for (Row& row : StandardRows()) {
      if (row.name == name) found.push_back(std::move(row));
    }
    if (found.size() == before) return absl::InvalidArgumentError(absl::StrCat("there is no row ", name));
  }
  return found;
}

Row RowOf(Transport transport, const Work& work, const std::vector<std::string>& otherwise) {
  Row row{.name = "", .transport = transport, .work = work, .implementations = otherwise};
  for (const Row& standard : StandardRows()) {
    if (SameWork(row, standard)) return standard;
  }
  return row;
}

bool SameWork(const Row& a, const Row& b) { return a.transport == b.transport && a.work == b.work; }

}  // namespace ferry::bench
