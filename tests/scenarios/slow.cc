// The scenario in which one server is much slower than the others.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/scenarios.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {

void PlaySlow(Stage& stage) {
  constexpr absl::Duration kWork = absl::Milliseconds(1);
  stage.StartServers(5, kWork);
  Channel& channel = stage.Connect(ProbeOptions());
  Load asks(channel, {.calls_per_second = 1000});
  stage.HoldThreads();
  const absl::Duration phase = stage.brief() ? absl::Seconds(3) : absl::Seconds(20);
  stage.Watch("all are quick  ", {&asks}, phase);
  const absl::Duration healthy =
      MedianP99(asks.results(), absl::Seconds(1), asks.Now() - absl::Milliseconds(100));
  stage.Replace(0, 50 * kWork);
  stage.TellAll();
  stage.Watch("one is slow    ", {&asks}, absl::Seconds(1));
  const absl::Duration from = asks.Now();
  stage.Watch("one is slow    ", {&asks}, phase);
  const absl::Duration to = asks.Now() - absl::Milliseconds(100);
  stage.PromiseThreads();
  asks.Stop();
  PromiseNoFailure(stage, asks, "failed calls");
  const absl::Duration p99 = MedianP99(asks.results(), from, to);
  const auto text = [](absl::Duration d) {
    return absl::StrFormat("%.2f ms", absl::ToDoubleMilliseconds(d));
  };
  stage.promises().Add("p99 with one server 50 times slower, in the median second",
                       absl::StrCat("<= ", text(2 * healthy)), text(p99), IsWithinTwice(p99, healthy),
                       Promises::Of::kTime);
  const double share = ShareOf(asks.results(), stage.server(0).address(), from, to);
  stage.promises().Add("the slow server's share of the calls", "< 1 %",
                       absl::StrFormat("%.2f %%", 100 * share), share < 0.01, Promises::Of::kTime);
}

}  // namespace ferry::scenarios
