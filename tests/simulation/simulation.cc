#include "tests/simulation/simulation.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iomanip>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry::simulation {
namespace {

// The command that runs one schedule again, for the handler of signals: written before each schedule.
char replay[128];

void OnFatalSignal(int signal_number) {
  constexpr absl::string_view kText = "\nsimulate: ended by a signal; again with ";
  // Nothing can be done about a failure here.
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, kText.data(), kText.size());
  written = write(STDERR_FILENO, replay, std::strlen(replay));
  raise(signal_number);
}

// Has signals that end the program say which schedule it was in.
void TellSeedOnFatalSignals() {
  struct sigaction action = {};
  action.sa_handler = OnFatalSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_NODEFER;
  for (const int one : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTERM}) sigaction(one, &action, nullptr);
}

void Add(const Outcome& one, Outcome& total) {
  for (size_t i = 0; i < kEvents; ++i) total.events[i] += one.events[i];
  for (size_t i = 0; i < one.ended.size(); ++i) total.ended[i] += one.ended[i];
  total.calls += one.calls;
  total.with_deadline += one.with_deadline;
  total.fragmented += one.fragmented;
  total.executed += one.executed;
  total.dropped += one.dropped;
  total.fingerprint = Scatter(total.fingerprint ^ one.fingerprint);
}

void WriteLine(std::ostream& out, absl::string_view name, uint64_t count) {
  out << "  " << std::left << std::setw(24) << name << std::right << std::setw(12) << count << "\n";
}

}  // namespace

std::string ReplayCommand(uint64_t seed) {
  return absl::StrCat("./dev simulate --schedules=1 --seed=", seed, " --trace");
}

Summary Simulate(const Options& options, std::ostream& out) {
  TellSeedOnFatalSignals();
  Summary summary;
  for (uint64_t i = 0; i < options.schedules && !summary.failed; ++i) {
    const uint64_t seed = options.seed + i;
    const std::string command = ReplayCommand(seed) + "\n";
    std::memcpy(replay, command.c_str(), std::min(command.size() + 1, sizeof replay));
    const Outcome outcome = World(seed, options.trace ? &out : nullptr).Run();
    ++summary.schedules;
    Add(outcome, summary.total);
    if (outcome.rounds_to_settle > summary.worst_rounds) {
      summary.worst_rounds = outcome.rounds_to_settle;
      summary.worst_seed = seed;
    }
    if (outcome.complaints.empty()) continue;
    summary.failed = true;
    summary.worst_seed = seed;
    summary.worst_rounds = outcome.rounds_to_settle;
    summary.total.complaints = outcome.complaints;
    out << "the schedule with seed " << seed << " fails:\n";
    for (const std::string& complaint : outcome.complaints) out << "  " << complaint << "\n";
    out << "again with " << ReplayCommand(seed) << "\n";
  }
  return summary;
}

void WriteSummary(const Summary& summary, std::ostream& out) {
  const Outcome& total = summary.total;
  out << summary.schedules << " schedules held these events:\n";
  for (size_t i = 0; i < kEvents; ++i) {
    WriteLine(out, EventName(static_cast<Event>(i)), total.events[i]);
  }
  out << "and " << total.calls << " calls, of which there were\n";
  WriteLine(out, "with a deadline", total.with_deadline);
  WriteLine(out, "over one fragment", total.fragmented);
  WriteLine(out, "executed", total.executed);
  for (size_t i = 0; i < total.ended.size(); ++i) {
    if (total.ended[i] == 0) continue;
    WriteLine(out, absl::StrCat("ended ", absl::StatusCodeToString(static_cast<absl::StatusCode>(i))),
              total.ended[i]);
  }
  WriteLine(out, "dropped by their callers", total.dropped);
  out << "worst seed: " << summary.worst_seed << ", which "
      << (summary.failed ? "fails" : absl::StrCat("takes ", summary.worst_rounds, " rounds to settle"))
      << "\n";
}

}  // namespace ferry::simulation
