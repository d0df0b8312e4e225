// Plays a scenario, and says what was promised and what was seen: ./dev scenario.
#include <algorithm>
#include <cstddef>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "tests/scenarios/stage.h"

ABSL_FLAG(bool, brief, false, "seconds instead of minutes; how long things take does not count then");
ABSL_FLAG(std::string, server, "", "the program to run as a server");

namespace ferry::scenarios {
namespace {

void List(std::ostream& out) {
  out << "scenarios:\n";
  for (const Scenario& scenario : Scenarios()) {
    out << "  " << scenario.name << std::string(12 - scenario.name.size(), ' ') << scenario.about << "\n";
  }
}

// 0 if every promise was kept, 1 if not, 2 if there is no such scenario.
int Play(std::string_view name) {
  for (const Scenario& scenario : Scenarios()) {
    if (scenario.name != name) continue;
    Stage stage(
        {.brief = absl::GetFlag(FLAGS_brief), .server = absl::GetFlag(FLAGS_server), .out = &std::cout});
    std::cout << scenario.name << ": " << scenario.about << std::endl;
    scenario.play(stage);
    return stage.Finish(name) ? 0 : 1;
  }
  std::cerr << "there is no scenario '" << name << "'" << std::endl;
  List(std::cerr);
  return 2;
}

}  // namespace
}  // namespace ferry::scenarios

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Plays the scenarios that are named, or lists them.");
  const std::vector<char*> names = absl::ParseCommandLine(argc, argv);
  if (names.size() < 2) {
    ferry::scenarios::List(std::cout);
    return 0;
  }
  int result = 0;
  for (size_t i = 1; i < names.size(); ++i) result = std::max(result, ferry::scenarios::Play(names[i]));
  return result;
}
