// Plays a scenario, and says what was promised and what was seen: ./dev scenario.
#include <algorithm>
#include <cstddef>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "tests/scenarios/play.h"
#include "tests/scenarios/scenarios.h"

ABSL_FLAG(bool, brief, false, "seconds instead of minutes; how long things take does not count then");
ABSL_FLAG(std::string, server, "", "the program to run as a server");
ABSL_FLAG(std::string, clients, "", "the program to run as further clients");

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Plays the scenarios that are named, or lists them.");
  const std::vector<char*> names = absl::ParseCommandLine(argc, argv);
  if (names.size() < 2) {
    ferry::scenarios::ListScenarios(ferry::scenarios::Scenarios(), std::cout);
    return 0;
  }
  const ferry::scenarios::StageOptions options = {.brief = absl::GetFlag(FLAGS_brief),
                                                  .server = absl::GetFlag(FLAGS_server),
                                                  .clients = absl::GetFlag(FLAGS_clients),
                                                  .out = &std::cout};
  int result = 0;
  for (size_t i = 1; i < names.size(); ++i) {
    result =
        std::max(result, ferry::scenarios::PlayScenario(ferry::scenarios::Scenarios(), names[i], options));
  }
  return result;
}
