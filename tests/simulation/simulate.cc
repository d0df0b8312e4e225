// Runs random schedules of calls and says what they held: ./dev simulate.
#include <cstdint>
#include <iostream>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "tests/simulation/simulation.h"

ABSL_FLAG(uint64_t, schedules, 10'000, "how many schedules to run");
ABSL_FLAG(uint64_t, seed, 1, "the seed of the first schedule; each further one has the next");
ABSL_FLAG(bool, trace, false, "write every event");

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Runs random schedules of calls, and ends with 1 at the first that fails.");
  absl::ParseCommandLine(argc, argv);
  const ferry::simulation::Options options{.schedules = absl::GetFlag(FLAGS_schedules),
                                           .seed = absl::GetFlag(FLAGS_seed),
                                           .trace = absl::GetFlag(FLAGS_trace)};
  std::cout << "seed " << options.seed << std::endl;
  const ferry::simulation::Summary summary = ferry::simulation::Simulate(options, std::cout);
  ferry::simulation::WriteSummary(summary, std::cout);
  return summary.failed ? 1 : 0;
}
