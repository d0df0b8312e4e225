#include "tests/scenarios/play.h"

#include <string>

namespace ferry::scenarios {

void ListScenarios(const std::vector<Scenario>& scenarios, std::ostream& out) {
  out << "scenarios:\n";
  for (const Scenario& scenario : scenarios) {
    out << "  " << scenario.name << std::string(12 - scenario.name.size(), ' ') << scenario.about << "\n";
  }
}

int PlayScenario(const std::vector<Scenario>& scenarios, std::string_view name, const StageOptions& options) {
  for (const Scenario& scenario : scenarios) {
    if (scenario.name != name) continue;
    Stage stage(options);
    *options.out << scenario.name << ": " << scenario.about << std::endl;
    scenario.play(stage);
    return stage.Finish(name) ? 0 : 1;
  }
  *options.out << "there is no scenario '" << name << "'\n";
  ListScenarios(scenarios, *options.out);
  return 2;
}

}  // namespace ferry::scenarios
