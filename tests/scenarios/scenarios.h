// The scenarios: servers that die, freeze, slow down and come back under load.
#ifndef FERRY_TESTS_SCENARIOS_SCENARIOS_H_
#define FERRY_TESTS_SCENARIOS_SCENARIOS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {

const std::vector<Scenario>& Scenarios();

// What they have in common.
inline constexpr absl::Duration kKeepalive = absl::Seconds(1);
// Longer than anything takes.
inline constexpr absl::Duration kPatience = absl::Seconds(40);

inline ChannelOptions ProbeOptions() { return {.keepalive_time = kKeepalive}; }

void PromiseNoFailure(Stage& stage, const Load& load, std::string what);

// Waits until the `index`th server has its fair share of all again; how long that took, infinite if it had
// not in kPatience.
absl::Duration TimeUntilShared(Stage& stage, const std::vector<const Load*>& loads, int index);

void PlayKill(Stage& stage);
void PlayBlackHole(Stage& stage);
void PlayRolling(Stage& stage);
void PlayAllDown(Stage& stage);
void PlaySlow(Stage& stage);
void PlayChurn(Stage& stage);

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_SCENARIOS_H_
