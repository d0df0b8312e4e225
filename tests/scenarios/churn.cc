// The scenario in which servers come and go all the time.
#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/connection_stats.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/process_usage.h"
#include "tests/scenarios/scenarios.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {
namespace {

constexpr int kProcesses = 5;
constexpr int kAddressesEach = 200;
constexpr int kListed = 500;

// A Churn is a list of servers that changes.
//
// Thread-compatible.
class Churn {
 public:
  explicit Churn(Stage& stage) : stage_(stage) {
    for (int i = 0; i < stage.servers(); ++i) {
      const std::vector<std::string>& some = stage.server(i).addresses();
      all_.insert(all_.end(), some.begin(), some.end());
    }
  }

  // Lists others, at random; about half of those that were there stay.
  void Change() {
    std::shuffle(all_.begin(), all_.end(), random_);
    listed_ = {all_.begin(), all_.begin() + kListed};
    stage_.names().Tell(std::vector<std::string>(listed_.begin(), listed_.end()));
  }

  // Whether the channel is connected to all those that are listed, once each, and has no other connection.
  bool IsConnected(const Channel& channel) const {
    std::multiset<std::string> servers;
    for (const ConnectionStats& connection : channel.connections()) {
      if (connection.state != ConnectionStats::State::kReady) return false;
      servers.insert(connection.server);
    }
    return std::equal(servers.begin(), servers.end(), listed_.begin(), listed_.end());
  }

 private:
  Stage& stage_;
  std::mt19937 random_{1};
  std::vector<std::string> all_;
  std::set<std::string> listed_;
};

// What the process uses at a moment, when its connections are those that are listed.
struct Usage {
  int64_t descriptors = 0;
  int64_t resident = 0;
  int64_t allocated = 0;
};

Usage UsageNow() { return {DescriptorsOfProcess(), ResidentMemory(), AllocatedMemory()}; }

void PromiseNoLeak(Stage& stage, const Usage& before, const Usage& after) {
  stage.promises().Add("file descriptors", absl::StrCat(before.descriptors), absl::StrCat(after.descriptors),
                       before.descriptors == after.descriptors);
  // 40 s are 10,000 connections: of 100 bytes that each left, one would see it. In the brief form not all
  // that is kept for later has been made when it is first looked at.
  const int64_t limit = stage.brief() ? 2048 : 1024;
  const auto grows = [&](std::string_view what, int64_t by) {
    stage.promises().Add(absl::StrCat(std::string(what), " memory grows in the last two thirds by"),
                         absl::StrCat("<= ", limit, " KiB"), absl::StrCat(by, " KiB"), by <= limit);
  };
  grows("resident", after.resident - before.resident);
  grows("allocated", after.allocated - before.allocated);
}

}  // namespace

void PlayChurn(Stage& stage) {
  stage.StartServersOnMany(kProcesses, kAddressesEach);
  Churn churn(stage);
  Channel& channel = stage.Connect(ProbeOptions());
  churn.Change();
  Load asks(channel, {.calls_per_second = 2000, .keep_all = false});
  stage.HoldThreads();
  const auto settle = [&] {
    return stage.Watch("all connected  ", {&asks}, kPatience, [&] { return churn.IsConnected(channel); });
  };
  bool settled = settle();
  const int rounds = stage.brief() ? 6 : 60;
  Usage before;
  for (int i = 0; i < rounds; ++i) {
    churn.Change();
    stage.Watch(absl::StrCat("change ", i + 1, " of ", rounds), {&asks}, absl::Seconds(1));
    if (i + 1 != rounds / 3) continue;
    // When pools are as full as they will be.
    settled = settle() && settled;
    before = UsageNow();
  }
  settled = settle() && settled;
  const Usage after = UsageNow();
  stage.PromiseThreads();
  asks.Stop();
  PromiseNoFailure(stage, asks, "failed idempotent calls");
  stage.promises().Add("connections at the end", absl::StrCat(kListed, " as listed"),
                       settled ? "those" : absl::StrCat(channel.connections().size(), " others"), settled);
  PromiseNoLeak(stage, before, after);
}

}  // namespace ferry::scenarios
