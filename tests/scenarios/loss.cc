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
#include "ferry/rpc/connection_stats.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/check.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/scenarios.h"
#include "tests/scenarios/server_process.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {
namespace {

// How long each call takes: at any time about 20 calls are under way to each server.
constexpr absl::Duration kWork = absl::Milliseconds(30);

// Calls that may be repeated, and fewer that may not.
struct Loads {
  explicit Loads(Channel& to, absl::Time beginning = absl::Now())
      : channel(to),
        asks(channel,
             {.method = LoadOptions::Method::kAsk, .calls_per_second = 2000, .beginning = beginning}),
        changes(channel,
                {.method = LoadOptions::Method::kChange, .calls_per_second = 500, .beginning = beginning}) {}

  std::vector<const Load*> all() const { return {&asks, &changes}; }
  void Stop() {
    asks.Stop();
    changes.Stop();
  }

  Channel& channel;
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
};

bool IsConnected(const Channel& channel, const std::string& server) {
  const std::vector<ConnectionStats> connections = channel.connections();
  return std::any_of(connections.begin(), connections.end(), [&](const ConnectionStats& connection) {
    return connection.server == server && connection.state == ConnectionStats::State::kReady;
  });
}

// How long the client had the connection during the loss, which this lets pass.
absl::Duration WatchLoss(Stage& stage, const Way& way, const Loads& loads, Loss& loss) {
  loss.from = loads.asks.Now();
  way.stop();
  absl::Duration connected;
  stage.Watch("one is gone    ", loads.all(), stage.phase() + 2 * way.notice, [&] {
    const absl::Duration now = loads.asks.Now();
    if (IsConnected(loads.channel, loss.address)) connected = now - loss.from;
    return false;
  });
  loss.to = loads.asks.Now();
  return ForeverIfToTheEnd(connected, loss);
}

void PromiseGone(Stage& stage, const Way& way, const Loads& loads, const Loss& loss) {
  const Astray asks = SentToLost(loads.asks.results(), loss);
  const Astray changes = SentToLost(loads.changes.results(), loss);
  stage.promises().AddTime(absl::StrCat("it is ", std::string(way.what), ": no call goes there after"),
                           2 * kKeepalive, std::max(asks.last, changes.last));
  // Whether that is seen shows that other lines of the table mean something.
  stage.promises().Add("  idempotent calls that it had or got", ">= 1", absl::StrCat(asks.calls),
                       asks.calls > 0);
}

Loss PlayLoss(Stage& stage, const Way& way, const Loads& loads) {
  stage.Watch("three servers  ", loads.all(), stage.phase());
  Loss loss = {.server = stage.server(way.server).address(), .address = stage.AddressOf(way.server)};
  // Time is not to count in the brief form.
  loss.notice = stage.brief() ? 2 * way.notice : way.notice;
  const absl::Duration connected = WatchLoss(stage, way, loads, loss);
  way.resume();
  const absl::Duration back_after = TimeUntilShared(stage, loads.all(), way.server);
  stage.Watch("three again    ", loads.all(), stage.phase());
  PromiseGone(stage, way, loads, loss);
  stage.promises().AddTime("  its connection is given up after", 2 * kKeepalive, connected);
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
  stage.StartServers(3, kWork);
  PlayLosses(stage, {{.what = "killed",
                      .server = 0,
                      .stop = [&] { stage.server(0).Kill(); },
                      .resume = [&] { stage.server(0).StartAgain(); },
                      .notice = kKeepalive}});
}

void PlayBlackHole(Stage& stage) {
  stage.StartServers(3, kWork);
  test::FaultProxy& proxy = stage.PutProxyBefore(1);
  const auto swallow = [&proxy](bool all) {
    FERRY_CHECK(proxy.SetFaults({.black_hole = all}).ok(), "the proxy does not listen");
  };
  PlayLosses(stage, {{.what = "stopped",
                      .server = 0,
                      .stop = [&] { stage.server(0).Freeze(); },
                      .resume = [&] { stage.server(0).Thaw(); },
                      .notice = 2 * kKeepalive},
                     {.what = "out of reach",
                      .server = 1,
                      .stop = [&] { swallow(true); },
                      .resume = [&] { swallow(false); },
                      .notice = 2 * kKeepalive}});
}

void PlayRolling(Stage& stage) {
  stage.StartServers(3, kWork);
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
