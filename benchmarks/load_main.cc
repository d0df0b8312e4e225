#include "ferry/benchmarks/load_main.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "ferry/benchmarks/load_curve.h"
#include "ferry/benchmarks/load_flags.h"
#include "ferry/benchmarks/open_loop.h"
#include "ferry/benchmarks/processors.h"
#include "ferry/benchmarks/report.h"
#include "ferry/benchmarks/results.h"
#include "ferry/benchmarks/rows.h"
#include "ferry/benchmarks/runner.h"
#include "ferry/benchmarks/server_process.h"

namespace ferry::bench {
namespace {

// Ends the program, and so its server, when it has taken far longer than it should.
void LimitTime(absl::Duration each, size_t runs) {
  constexpr absl::Duration kSpare = absl::Seconds(30);
  const absl::Duration limit = kSpare + (each + kSpare) * static_cast<double>(runs);
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

int RunServer(const Implementations& known) {
  const std::vector<std::string> names = absl::GetFlag(FLAGS_impl);
  absl::StatusOr<std::unique_ptr<Implementation>> implementation =
      FindImplementation(known, names.empty() ? "" : names.front());
  if (!implementation.ok()) return Fail(implementation.status());
  std::optional<OneProcessor> one_processor;
  if (absl::GetFlag(FLAGS_one_processor)) one_processor.emplace();
  return ServerProcess::Serve((*implementation)->StartServer(absl::GetFlag(FLAGS_listen)));
}

int RunLoad(const Implementations& known) {
  const absl::StatusOr<std::vector<Row>> rows = RowsOfFlags();
  if (!rows.ok()) return Fail(rows.status());
  const RunOptions options = OptionsOfFlags();
  LimitTime(options.meter.warm_up + options.meter.duration, CountRuns(*rows, known, options));
  const absl::StatusOr<std::vector<Result>> results = RunRows(*rows, known, options);
  if (!results.ok()) return Fail(results.status());
  if (absl::GetFlag(FLAGS_json)) {
    std::fputs(Json(*results).c_str(), stdout);
  } else {
    std::printf("%s\n%s", FigureTable(*results).c_str(), BoundTable(*results).c_str());
  }
  return 0;
}

int RunOpenLoops(const Implementations& known) {
  const absl::StatusOr<LoadCurveOptions> options = CurveOfFlags(known);
  if (!options.ok()) return Fail(options.status());
  const OpenLoopOptions& each = options->open_loop;
  LimitTime(each.warm_up + each.duration, options->rates.size() * options->implementations.size());
  const absl::StatusOr<std::vector<LoadPoint>> points = RunLoadCurve(known, *options);
  if (!points.ok()) return Fail(points.status());
  std::fputs((absl::GetFlag(FLAGS_json) ? LoadCurveJson(*points) : LoadCurveTable(*points)).c_str(), stdout);
  if (const std::string file = absl::GetFlag(FLAGS_data); !file.empty()) {
    std::ofstream(file) << LoadCurveData(*points);
  }
  return 0;
}

}  // namespace

int LoadMain(int argc, char** argv, const Implementations& known) {
  absl::SetProgramUsageMessage(
      "measures calls between a client and a server process. Without flags: all standard rows.");
  absl::ParseCommandLine(argc, argv);
  if (absl::GetFlag(FLAGS_role) == "server") return RunServer(known);
  return absl::GetFlag(FLAGS_open_loop) ? RunOpenLoops(known) : RunLoad(known);
}

}  // namespace ferry::bench
