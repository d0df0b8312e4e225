#include "ferry/benchmarks/runner.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "ferry/benchmarks/implementations.h"
#include "ferry/benchmarks/server_process.h"

namespace ferry::bench {
namespace {

absl::StatusOr<std::string> MakeTempDir() {
  const char* parent = getenv("TMPDIR");
  std::string path = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/ferry-load-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path));
  return path;
}

std::string Describe(const Row& row, const std::string& implementation) {
  return absl::StrCat(implementation, ", ", std::string(Name(row.work.workload)), " over ",
                      std::string(Name(row.transport)), ", ", row.work.connections, " x ", row.work.in_flight,
                      " in flight, ", row.work.payload, " bytes");
}

absl::Status Annotated(const absl::Status& status, const std::string& what) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

absl::StatusOr<Measurement> Measure(const Row& row, const std::string& name, const std::string& temp_dir,
                                    const Meter::Options& options) {
  absl::StatusOr<std::unique_ptr<Implementation>> implementation = FindImplementation(name);
  if (!implementation.ok()) return implementation.status();
  const std::string address =
      row.transport == Transport::kUnix ? absl::StrCat("unix:", temp_dir, "/echo") : "127.0.0.1:0";
  absl::StatusOr<std::unique_ptr<ServerProcess>> server = ServerProcess::Start(
      {"--role=server", absl::StrCat("--impl=", name), absl::StrCat("--listen=", address)});
  if (!server.ok()) return server.status();
  Meter meter(options, [&] {
    const Usage of_server = (*server)->TakeUsage();
    return Mark{.nanos = NowNanos(), .client = Usage::SoFar(), .server = of_server};
  });
  absl::Status status = (*implementation)->RunClient((*server)->address(), row.work, meter);
  if (!status.ok()) return status;
  if (meter.measurement().latency.count() == 0) return absl::DeadlineExceededError("no call ended in time");
  return meter.measurement();
}

absl::StatusOr<Result> RunRow(const Row& row, const std::string& name, const Meter::Options& options) {
  const std::string what = Describe(row, name);
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "%s\n", what.c_str());
  absl::StatusOr<std::string> temp_dir = MakeTempDir();
  if (!temp_dir.ok()) return temp_dir.status();
  absl::Cleanup remove = [&] {
    std::error_code ignored;
    std::filesystem::remove_all(*temp_dir, ignored);
  };
  absl::StatusOr<Measurement> measured = Measure(row, name, *temp_dir, options);
  if (!measured.ok()) return Annotated(measured.status(), what);
  return Result{row, name, *std::move(measured)};
}

// The results of all rounds, each a vector of the same rows, as one.
std::vector<Result> Medians(std::vector<std::vector<Result>> rounds) {
  std::vector<Result> medians;
  for (size_t i = 0; i < rounds.front().size(); ++i) {
    std::vector<Result> same;
    same.reserve(rounds.size());
    for (std::vector<Result>& round : rounds) same.push_back(std::move(round[i]));
    const auto middle = same.begin() + static_cast<std::ptrdiff_t>(same.size() / 2);
    std::nth_element(same.begin(), middle, same.end(), [](const Result& a, const Result& b) {
      return a.calls_per_second() < b.calls_per_second();
    });
    medians.push_back(std::move(*middle));
  }
  return medians;
}

}  // namespace

absl::StatusOr<std::vector<Result>> RunRows(absl::Span<const Row> rows,
                                            absl::Span<const std::string> implementations,
                                            const RunOptions& options) {
  std::vector<std::vector<Result>> rounds(static_cast<size_t>(options.rounds));
  for (std::vector<Result>& round : rounds) {
    for (const Row& row : rows) {
      for (const std::string& implementation : implementations) {
        absl::StatusOr<Result> result = RunRow(row, implementation, options.meter);
        if (!result.ok()) return result.status();
        round.push_back(*std::move(result));
      }
    }
  }
  return Medians(std::move(rounds));
}

}  // namespace ferry::bench
