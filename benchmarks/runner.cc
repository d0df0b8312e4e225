#include "ferry/benchmarks/runner.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/processors.h"
#include "ferry/benchmarks/served.h"
#include "ferry/benchmarks/server_process.h"

namespace ferry::bench {
namespace {

// A Run is one row as one implementation is to do it, and how it went so far.
struct Run {
  const Row* row;
  std::string name;
  std::vector<Measurement> rounds;
};

std::string Describe(const Run& run) {
  const Work& work = run.row->work;
  return absl::StrCat(run.row->name, " ", run.name, ", ", std::string(Name(work.workload)), " over ",
                      std::string(Name(run.row->transport)), ", ", work.threads, " threads x ",
                      work.connections, " connections x ", work.in_flight, " in flight, ", work.payload,
                      " bytes");
}

absl::Status Annotated(const absl::Status& status, const std::string& what) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

int64_t MessageBytes(const Work& work) {
  EchoRequest request;
  request.set_payload(std::string(work.payload, 'x'));
  EchoReply reply;
  reply.set_payload(request.payload());
  return static_cast<int64_t>(request.ByteSizeLong() + reply.ByteSizeLong());
}

// A Marks takes the marks of one measurement, and after the last one watches both processes rest if it is to.
class Marks {
 public:
  Marks(ServerProcess& server, bool watch_rest) : server_(server), watch_rest_(watch_rest) {}

  Mark Take() {
    const int64_t now = NowNanos();
    const Usage of_server = server_.TakeUsage();
    const Mark mark{.nanos = NowNanos(), .client = Usage::SoFar(), .server = of_server};
    if (std::exchange(is_last_, true) && watch_rest_) {
      server_.BeginRest(now);
      client_rest = WatchRest(now);
      server_rest = server_.AwaitRest();
    }
    return mark;
  }

  std::optional<Rest> client_rest;
  std::optional<Rest> server_rest;

 private:
  ServerProcess& server_;
  const bool watch_rest_;
  bool is_last_ = false;
};

absl::StatusOr<Measurement> Measure(const Run& run, const Implementations& known, Meter::Options options) {
  const Row& row = *run.row;
  absl::StatusOr<std::unique_ptr<Implementation>> implementation = FindImplementation(known, run.name);
  if (!implementation.ok()) return implementation.status();
  absl::StatusOr<std::unique_ptr<Served>> served =
      Served::Start(run.name, row.transport, row.work.one_processor);
  if (!served.ok()) return served.status();
  ServerProcess& server = (*served)->process();
  std::optional<OneProcessor> one_processor;
  if (row.work.one_processor) one_processor.emplace();
  Marks marks(server, row.watch_rest && run.name == row.implementations.front());
  // Calls that are in flight when measuring begins are not timed.
  options.max_calls = std::max<int64_t>(options.max_calls, 2 * row.work.connections * row.work.in_flight);
  Meter meter(options, [&] { return marks.Take(); });
  absl::Status status = (*implementation)->RunClient(server.address(), row.work, meter);
  if (!status.ok()) return status;
  Measurement measured = meter.measurement();
  if (measured.latency.count() == 0) return absl::DeadlineExceededError("no call ended in time");
  measured.message_bytes = MessageBytes(row.work);
  measured.client_rest = marks.client_rest;
  measured.server_rest = marks.server_rest;
  return measured;
}

absl::Status RunOnce(Run& run, const Implementations& known, const Meter::Options& options) {
  const std::string what = Describe(run);
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "%s\n", what.c_str());
  absl::StatusOr<Measurement> measured = Measure(run, known, options);
  if (!measured.ok()) return Annotated(measured.status(), what);
  run.rounds.push_back(*std::move(measured));
  return absl::OkStatus();
}

bool Has(const Implementations& known, const std::string& name) {
  return std::any_of(known.begin(), known.end(), [&](const auto& one) { return one.name == name; });
}

std::vector<Run> RunsOf(absl::Span<const Row> rows, const Implementations& known, const RunOptions& options) {
  std::vector<Run> runs;
  for (const Row& row : rows) {
    const bool chosen = !options.implementations.empty();
    for (const std::string& name : chosen ? options.implementations : row.implementations) {
      if (chosen || Has(known, name)) runs.push_back({&row, name, {}});
    }
  }
  return runs;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Implementation>> FindImplementation(const Implementations& implementations,
                                                                   const std::string& name) {
  for (const NamedImplementation& implementation : implementations) {
    if (implementation.name == name) return implementation.make();
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no implementation ", name));
}

size_t CountRuns(absl::Span<const Row> rows, const Implementations& known, const RunOptions& options) {
  return RunsOf(rows, known, options).size() * static_cast<size_t>(options.rounds);
}

absl::StatusOr<std::vector<Result>> RunRows(absl::Span<const Row> rows, const Implementations& known,
                                            const RunOptions& options) {
  std::vector<Run> runs = RunsOf(rows, known, options);
  for (int round = 0; round < options.rounds; ++round) {
    for (Run& run : runs) {
      absl::Status status = RunOnce(run, known, options.meter);
      if (!status.ok()) return status;
    }
  }
  std::vector<Result> results;
  results.reserve(runs.size());
  for (Run& run : runs) results.push_back({*run.row, std::move(run.name), std::move(run.rounds)});
  return results;
}

}  // namespace ferry::bench
