// Playing scenarios by their names.
#ifndef FERRY_TESTS_SCENARIOS_PLAY_H_
#define FERRY_TESTS_SCENARIOS_PLAY_H_

#include <ostream>
#include <string_view>
#include <vector>

#include "tests/scenarios/stage.h"

namespace ferry::scenarios {

void ListScenarios(const std::vector<Scenario>& scenarios, std::ostream& out);

// Plays the one that is called `name`, and writes its table. The program's exit code: 0 if every promise was
// kept, 1 if not, 2 if there is none of that name.
int PlayScenario(const std::vector<Scenario>& scenarios, std::string_view name, const StageOptions& options);

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_PLAY_H_
