#include "tests/scenarios/scenarios.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/scenarios/results.h"

namespace ferry::scenarios {

void PromiseNoFailure(Stage& stage, const Load& load, std::string what) {
  std::string seen = absl::StrCat(load.failed(), " of ", load.ended());
  if (load.failed() > 0) absl::StrAppend(&seen, " (", std::string(load.first_error().message()), ")");
  stage.promises().Add(std::move(what), "none", std::move(seen), load.failed() == 0);
}

absl::Duration TimeUntilShared(Stage& stage, const std::vector<const Load*>& loads, int index) {
  const Load& load = *loads.front();
  const std::string& server = stage.server(index).address();
  const absl::Duration from = load.Now();
  const bool shared = stage.Watch("it is back     ", loads, kPatience, [&] {
    // Less what may not have ended.
    const absl::Duration since = load.Now() - absl::Milliseconds(450);
    const double share = ShareOf(load.results(since), server, since, since + absl::Milliseconds(350));
    return IsFairShare(share, stage.servers());
  });
  return shared ? load.Now() - from : absl::InfiniteDuration();
}

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario>& scenarios = *new std::vector<Scenario>{
      {"kill", "one of three servers is killed, and started again", PlayKill},
      {"blackhole", "one of three servers is stopped (SIGSTOP), then what is sent to one vanishes",
       PlayBlackHole},
      {"all-down", "all servers are killed, and one is started again", PlayAllDown},
      {"slow", "one of five servers is replaced by one that is 50 times slower", PlaySlow},
      {"churn", "500 of 1,000 endpoints are in the list, others each second", PlayChurn},
      {"rolling", "three servers are restarted one after the other, again and again", PlayRolling},
  };
  return scenarios;
}

}  // namespace ferry::scenarios
