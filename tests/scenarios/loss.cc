// Scenarios in which one of three servers is lost, and comes back.
#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/check.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/scenarios.h"
#include "tests/scenarios/server_process.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {
namespace {

// Calls that may be repeated, and fewer that may not.
struct Loads {
  explicit Loads(Channel& channel, absl::Time beginning = absl::Now())
      : asks(channel,
             {.method = LoadOptions::Method::kAsk, .calls_per_second = 2000, .beginning = beginning}),
        changes(channel,
                {.method = LoadOptions::Method::kChange, .calls_per_second = 200, .beginning = beginning}) {}

  std::vector<const Load*> all() const { return {&asks, &changes}; }
  void Stop() {
    asks.Stop();
    changes.Stop();
  }

  Load asks;
  Load changes;
};

// How one of the servers is lost.
struct Way {
  // What the server is then, as the table says.
  std::string_view what;
  int server;
  std::function<void()> stop;
  std::function<void()> resume;
  // Within which time the client notices.
  absl::Duration notice;
  // Calls surely go astray: whether that is seen shows that other lines of the table mean something.
  bool silent;
};

void PromiseGone(Stage& stage, const Way& way, const Loads& loads, const Loss& loss) {
  const Astray asks = SentToLost(loads.asks.results(), loss);
  const Astray changes = SentToLost(loads.changes.results(), loss);
  stage.promises().AddTime(absl::StrCat("it is ", std::string(way.what), ": no call goes there after"),
                           2 * kKeepalive, std::max(asks.last, changes.last));
  if (!way.silent) return;
  stage.promises().Add("  calls that went there until then", ">= 1", absl::StrCat(asks.calls),
                       asks.calls > 0);
}

Loss PlayLoss(Stage& stage, const Way& way, const Loads& loads) {
  const absl::Duration phase = stage.brief() ? absl::Seconds(2) : absl::Seconds(10);
  stage.Watch("three servers  ", loads.all(), phase);
  Loss loss = {.server = stage.server(way.server).address(), .address = stage.AddressOf(way.server)};
  // Time is not to count in the brief form.
  loss.notice = stage.brief() ? 2 * way.notice : way.notice;
  loss.from = loads.asks.Now();
  way.stop();
  stage.Watch("one is gone    ", loads.all(), phase + 2 * way.notice);
  loss.to = loads.asks.Now();
  way.resume();
  const absl::Duration back_after = TimeUntilShared(stage, loads.all(), way.server);
  stage.Watch("three again    ", loads.all(), phase);
  PromiseGone(stage, way, loads, loss);
  stage.promises().AddTime("  it carries its share again after", absl::Seconds(5), back_after);
  return loss;
}

// Of calls that are not idempotent, only those in flight to a lost server may fail, and say so.
void PromiseExcuses(Stage& stage, const Load& changes, const std::vector<Loss>& losses) {
  const size_t unexcused = UnexcusedFailures(changes.results(), losses);
  stage.promises().Add("failed calls that are not idempotent", "in flight there",
                       absl::StrCat(changes.failed(), " of ", changes.ended(), ", ", unexcused, " others"),
                       unexcused == 0);
}

// The ways in turn.
void PlayLosses(Stage& stage, const std::vector<Way>& ways) {
  Loads loads(stage.Connect(ProbeOptions()));
  stage.HoldThreads();
  std::vector<Loss> losses;
  losses.reserve(ways.size());
  for (const Way& way : ways) losses.push_back(PlayLoss(stage, way, loads));
  stage.PromiseThreads();
  loads.Stop();
  PromiseNoFailure(stage, loads.asks, "failed idempotent calls");
  PromiseExcuses(stage, loads.changes, losses);
}

}  // namespace

void PlayKill(Stage& stage) {
  stage.StartServers(3);
  PlayLosses(stage, {{.what = "killed",
                      .server = 0,
                      .stop = [&] { stage.server(0).Kill(); },
                      .resume = [&] { stage.server(0).StartAgain(); },
                      .notice = kKeepalive,
                      .silent = false}});
}

void PlayBlackHole(Stage& stage) {
  stage.StartServers(3);
  test::FaultProxy& proxy = stage.PutProxyBefore(1);
  const auto swallow = [&proxy](bool all) {
    FERRY_CHECK(proxy.SetFaults({.black_hole = all}).ok(), "the proxy does not listen");
  };
  PlayLosses(stage, {{.what = "stopped",
                      .server = 0,
                      .stop = [&] { stage.server(0).Freeze(); },
                      .resume = [&] { stage.server(0).Thaw(); },
                      .notice = 2 * kKeepalive,
                      .silent = true},
                     {.what = "out of reach",
                      .server = 1,
                      .stop = [&] { swallow(true); },
                      .resume = [&] { swallow(false); },
                      .notice = 2 * kKeepalive,
                      .silent = true}});
}

void PlayRolling(Stage& stage) {
  stage.StartServers(3);
  Loads loads(stage.Connect(ProbeOptions()));
  stage.HoldThreads();
  const int restarts = stage.brief() ? 3 : 20;
  absl::Duration worst;
  for (int i = 0; i < restarts; ++i) {
    ServerProcess& server = stage.server(i % 3);
    const std::string restart = absl::StrCat("restart ", i + 1, " of ", restarts);
    stage.Watch(restart, loads.all(), absl::Milliseconds(500));
    server.Terminate();
    stage.Watch(restart, loads.all(), absl::Milliseconds(200));
    server.StartAgain();
    worst = std::max(worst, TimeUntilShared(stage, loads.all(), i % 3));
  }
  stage.PromiseThreads();
  loads.Stop();
  PromiseNoFailure(stage, loads.asks, "failed idempotent calls");
  PromiseNoFailure(stage, loads.changes, "failed calls that are not idempotent");
  stage.promises().AddTime("each carries its share again after", absl::Seconds(5), worst);
}

}  // namespace ferry::scenarios
