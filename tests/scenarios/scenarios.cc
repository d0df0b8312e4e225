// The scenarios: servers that die, freeze, slow down and come back under load.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/transport/check.h"
#include "ferry/transport/loop_group.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/scenarios.ferry.h"
#include "tests/scenarios/server_process.h"
#include "tests/scenarios/stage.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::scenarios {
namespace {

constexpr absl::Duration kKeepalive = absl::Seconds(1);
constexpr int kAsksPerSecond = 2000;
constexpr int kChangesPerSecond = 200;
// Longer than anything takes.
constexpr absl::Duration kPatience = absl::Seconds(40);

ChannelOptions Options() { return {.keepalive_time = kKeepalive}; }

void PromisesNoFailure(Stage& stage, const Load& load, std::string what) {
  std::string seen = absl::StrCat(load.failed(), " of ", load.ended());
  if (load.failed() > 0) {
    const std::vector<Result> results = load.results();
    const auto first = std::find_if(results.begin(), results.end(),
                                    [](const Result& result) { return !result.status.ok(); });
    absl::StrAppend(&seen, " (", std::string(first->status.message()), ")");
  }
  stage.Promises(std::move(what), "none", std::move(seen), load.failed() == 0);
}

// Of calls that are not idempotent, only those under way to the server may fail, and say so.
void PromisesHonestFailures(Stage& stage, const Load& load, const std::string& server) {
  size_t honest = 0;
  for (const Result& result : load.results()) {
    if (result.status.ok()) continue;
    const std::optional<CallFailure> failure = FailureOf(result.status);
    honest += failure.has_value() && failure->execution() == CallFailure::MAYBE_EXECUTED &&
              failure->peer() == server;
  }
  stage.Promises("failed calls that are not idempotent, and say maybe executed", "all",
                 absl::StrCat(honest, " of ", load.failed()), honest == load.failed());
}

// When the last call began, after `from`, that went to `server` and ended well or was lost there.
absl::Duration LastOn(const Load& load, const std::string& server, absl::Duration from) {
  absl::Duration last;
  for (const Result& result : load.results()) {
    const std::optional<CallFailure> failure = FailureOf(result.status);
    const bool on = result.server == server || (failure.has_value() && failure->peer() == server);
    if (on && result.began > from) last = std::max(last, result.began - from);
  }
  return last;
}

// Waits until `server` has half of its fair share of three again; how long that took.
absl::Duration TimeUntilShared(Stage& stage, const std::vector<const Load*>& loads,
                               const std::string& server) {
  const Load& load = *loads.front();
  const absl::Duration from = load.Now();
  const bool shared = stage.Watch("it is back     ", loads, kPatience, [&] {
    const absl::Duration now = load.Now();
    return load.ShareOf(server, now - absl::Milliseconds(400), now - absl::Milliseconds(50)) > 1.0 / 6;
  });
  return shared ? load.Now() - from : absl::InfiniteDuration();
}

// One of three servers goes, by `stop`, and comes back, by `resume`.
void PlayLoss(Stage& stage, void (*stop)(ServerProcess&), void (*resume)(ServerProcess&),
              absl::Duration notice) {
  stage.StartServers(3);
  Channel& channel = stage.Connect(Options());
  Load asks(channel, Load::Method::kAsk, kAsksPerSecond);
  Load changes(channel, Load::Method::kChange, kChangesPerSecond);
  const std::vector<const Load*> loads = {&asks, &changes};
  const absl::Duration phase = stage.brief() ? absl::Seconds(2) : absl::Seconds(10);
  stage.Watch("three servers  ", loads, phase);
  const int threads = Stage::Threads();
  ServerProcess& lost = stage.server(0);
  const absl::Duration lost_at = asks.Now();
  stop(lost);
  stage.Watch("one is gone    ", loads, phase + 2 * notice);
  const absl::Duration gone_after = LastOn(asks, lost.address(), lost_at);
  resume(lost);
  const absl::Duration back_after = TimeUntilShared(stage, loads, lost.address());
  stage.Watch("three again    ", loads, phase);
  const int threads_after = Stage::Threads();
  asks.Stop();
  changes.Stop();
  PromisesNoFailure(stage, asks, "failed idempotent calls");
  PromisesHonestFailures(stage, changes, lost.address());
  stage.PromisesTime("the lost server's share is gone after", notice, gone_after);
  stage.PromisesTime("it carries its share again after", absl::Seconds(5), back_after);
  stage.Promises("threads", absl::StrCat(threads), absl::StrCat(threads_after), threads == threads_after);
}

void PlayKill(Stage& stage) {
  PlayLoss(
      stage, [](ServerProcess& server) { server.Kill(); }, [](ServerProcess& server) { server.StartAgain(); },
      2 * kKeepalive);
}

void PlayBlackHole(Stage& stage) {
  PlayLoss(
      stage, [](ServerProcess& server) { server.Freeze(); }, [](ServerProcess& server) { server.Thaw(); },
      2 * kKeepalive);
}

// How many of the times at most lie within `window` of one another.
size_t MostWithin(std::vector<absl::Duration> times, absl::Duration window) {
  std::sort(times.begin(), times.end());
  size_t most = 0;
  for (size_t first = 0, last = 0; last < times.size(); ++last) {
    while (times[last] - times[first] > window) ++first;
    most = std::max(most, last - first + 1);
  }
  return most;
}

void PlayAllDown(Stage& stage) {
  stage.StartServers(3);
  Channel& channel = stage.Connect(Options());
  {
    Load asks(channel, Load::Method::kAsk, kAsksPerSecond);
    stage.Watch("three servers  ", {&asks}, absl::Seconds(1));
    PromisesNoFailure(stage, asks, "failed calls before");
  }
  // More clients of the same servers, on one thread.
  const int others = stage.brief() ? 200 : 1000;
  absl::StatusOr<std::unique_ptr<transport::LoopGroup>> loops =
      transport::LoopGroup::Create({.threads = 1, .name = "clients"});
  FERRY_CHECK(loops.ok(), "no thread");
  ChannelOptions options = Options();
  options.loops = loops->get();
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::unique_ptr<test::ManualNames>> names;
  for (int i = 0; i < others; ++i) {
    names.push_back(std::make_unique<test::ManualNames>());
    absl::StatusOr<std::unique_ptr<Channel>> created =
        Channel::CreateResolved("the service", names.back()->Factory(), options);
    FERRY_CHECK(created.ok(), created.status().ToString().c_str());
    channels.push_back(*std::move(created));
    names.back()->Tell({stage.server(0).address()});
  }
  for (int i = 0; i < 3; ++i) stage.server(i).Kill();
  stage.Watch("all are down   ", {}, stage.brief() ? absl::Seconds(2) : absl::Seconds(20));
  const absl::Time beginning = absl::Now();
  absl::Mutex mutex;
  std::vector<absl::Duration> answered;
  absl::Duration first_answer = absl::InfiniteDuration();
  const auto ask = [&](Channel& from, absl::Duration* when) {
    ProbeStub(from).Ask(ProbeRequest(), {.timeout = 2 * kPatience, .wait_for_ready = true},
                        [&, when](const absl::StatusOr<ProbeReply>& reply) {
                          absl::MutexLock lock(&mutex);
                          if (!reply.ok()) return;
                          answered.push_back(absl::Now() - beginning);
                          if (when != nullptr) *when = answered.back();
                        });
  };
  ask(channel, &first_answer);
  for (const auto& other : channels) ask(*other, nullptr);
  stage.Watch("all wait       ", {}, absl::Seconds(1));
  stage.server(0).StartAgain();
  const absl::Duration back_at = absl::Now() - beginning;
  const bool all = stage.Watch("the first is up", {}, kPatience, [&] {
    absl::MutexLock lock(&mutex);
    return answered.size() == channels.size() + 1;
  });
  channels.clear();
  absl::MutexLock lock(&mutex);
  stage.PromisesTime("the client is connected again after", absl::Seconds(1), first_answer - back_at);
  stage.Promises(absl::StrCat("of ", others + 1, " clients that wait, are answered"), "all",
                 absl::StrCat(answered.size()), all);
  const size_t most = MostWithin(answered, absl::Milliseconds(100));
  const size_t limit = static_cast<size_t>(others) / 5;
  stage.Promises("most of them within one tenth of a second", absl::StrCat("<= ", limit), absl::StrCat(most),
                 most <= limit, /*is_time=*/true);
}

void PlaySlow(Stage& stage) {
  constexpr absl::Duration kWork = absl::Milliseconds(1);
  stage.StartServers(5, kWork);
  Channel& channel = stage.Connect(Options());
  Load asks(channel, Load::Method::kAsk, 1000);
  const absl::Duration phase = stage.brief() ? absl::Seconds(3) : absl::Seconds(20);
  stage.Watch("all are quick  ", {&asks}, phase);
  const absl::Duration healthy = asks.P99(absl::Seconds(1), asks.Now() - absl::Milliseconds(100));
  stage.Replace(0, 50 * kWork);
  stage.TellAll();
  stage.Watch("one is slow    ", {&asks}, absl::Seconds(1));
  const absl::Duration from = asks.Now();
  stage.Watch("one is slow    ", {&asks}, phase);
  const absl::Duration to = asks.Now() - absl::Milliseconds(100);
  const absl::Duration p99 = asks.P99(from, to);
  asks.Stop();
  PromisesNoFailure(stage, asks, "failed calls");
  const auto text = [](absl::Duration d) {
    return absl::StrFormat("%.2f ms", absl::ToDoubleMilliseconds(d));
  };
  stage.Promises("p99 with one server 50 times slower", absl::StrCat("<= ", text(2 * healthy)), text(p99),
                 p99 <= 2 * healthy, /*is_time=*/true);
  stage.Promises("the slow server's share of the calls", "< 1 %",
                 absl::StrFormat("%.2f %%", 100 * asks.ShareOf(stage.server(0).address(), from, to)),
                 asks.ShareOf(stage.server(0).address(), from, to) < 0.01, /*is_time=*/true);
}

// In kilobytes.
int64_t ResidentMemory() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = 0;
  while (status >> word) {
    if (word == "VmRSS:") status >> kilobytes;
  }
  return kilobytes;
}

class Churning final : public ProbeService {
 public:
  absl::Status Ask(ServerContext&, const ProbeRequest& request, ProbeReply& reply) override {
    reply.set_id(request.id());
    return absl::OkStatus();
  }
};

void PlayChurn(Stage& stage) {
  constexpr int kEndpoints = 500;
  Churning service;
  Server server(ServerOptions{.threads = 1});
  server.Register(service);
  for (int i = 0; i < kEndpoints; ++i) {
    const absl::Status listening = server.Listen(absl::StrCat("127.0.", 1 + i / 200, ".", 1 + i % 200, ":0"));
    FERRY_CHECK(listening.ok(), listening.ToString().c_str());
  }
  const std::vector<std::string> all = server.addresses();
  Channel& channel = stage.Connect(Options());
  std::mt19937 random(1);
  // Half of them, others each time.
  const auto tell = [&] {
    std::vector<std::string> some = all;
    std::shuffle(some.begin(), some.end(), random);
    some.resize(kEndpoints / 2);
    stage.names().Tell(some);
  };
  tell();
  Load asks(channel, Load::Method::kAsk, kAsksPerSecond);
  const int rounds = stage.brief() ? 5 : 60;
  int64_t memory = 0;
  const int threads = Stage::Threads();
  for (int i = 0; i < rounds; ++i) {
    stage.Watch(absl::StrCat("change ", i + 1, " of ", rounds), {&asks}, absl::Seconds(1));
    tell();
    // When pools are as full as they will be.
    if (i == rounds / 3) memory = ResidentMemory();
  }
  const int64_t memory_after = ResidentMemory();
  const int threads_after = Stage::Threads();
  asks.Stop();
  PromisesNoFailure(stage, asks, "failed idempotent calls");
  stage.Promises("threads", absl::StrCat(threads), absl::StrCat(threads_after), threads == threads_after);
  // Results are kept, too: 200 bytes for each call.
  const int64_t kept = static_cast<int64_t>(asks.ended()) / 5;
  stage.Promises("memory grows in the last two thirds by", absl::StrCat("<= ", kept + 20'000, " KiB"),
                 absl::StrCat(memory_after - memory, " KiB"), memory_after - memory <= kept + 20'000);
}

void PlayRolling(Stage& stage) {
  stage.StartServers(3);
  Channel& channel = stage.Connect(Options());
  Load asks(channel, Load::Method::kAsk, kAsksPerSecond);
  Load changes(channel, Load::Method::kChange, kChangesPerSecond);
  const std::vector<const Load*> loads = {&asks, &changes};
  const int restarts = stage.brief() ? 3 : 20;
  for (int i = 0; i < restarts; ++i) {
    ServerProcess& server = stage.server(i % 3);
    stage.Watch(absl::StrCat("restart ", i + 1, " of ", restarts), loads, absl::Milliseconds(500));
    server.Terminate();
    server.StartAgain();
    TimeUntilShared(stage, loads, server.address());
  }
  asks.Stop();
  changes.Stop();
  PromisesNoFailure(stage, asks, "failed idempotent calls");
  PromisesNoFailure(stage, changes, "failed calls that are not idempotent");
}

}  // namespace

const std::vector<Scenario>& Scenarios() {
  static const std::vector<Scenario>& scenarios = *new std::vector<Scenario>{
      {"kill", "one of three servers is killed, and started again", PlayKill},
      {"blackhole", "one of three servers is stopped (SIGSTOP), and goes on", PlayBlackHole},
      {"all-down", "all servers are killed, and one is started again", PlayAllDown},
      {"slow", "one of five servers is replaced by one that is 50 times slower", PlaySlow},
      {"churn", "half of 500 endpoints are in the list, others each second", PlayChurn},
      {"rolling", "three servers are restarted one after the other, again and again", PlayRolling},
  };
  return scenarios;
}

}  // namespace ferry::scenarios
