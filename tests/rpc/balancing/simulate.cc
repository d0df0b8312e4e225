// Prints how the balancing policies spread load over fleets of 3 to 10,000 servers, what one slow server
// does, and how much moves when servers come and go. With --plot=DIR, writes what balancing.gp draws.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"
#include "tests/rpc/balancing/fleet_simulation.h"

ABSL_FLAG(uint64_t, seed, 1, "of all random choices");
ABSL_FLAG(std::string, plot, "", "folder, which exists, to write spread.data and slow.data to");

namespace ferry::test {
namespace {

struct Policy {
  const char* name;
  BalancingPolicy policy;
};
constexpr Policy kPolicies[] = {
    {"round-robin", BalancingPolicy::kRoundRobin},
    {"least-loaded", BalancingPolicy::kLeastLoaded},
    {"consistent-hash", BalancingPolicy::kConsistentHash},
};
constexpr size_t kFleets[] = {3, 10, 100, 1'000, 10'000};

double Millis(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

// At least enough that a server gets some 200 calls.
uint64_t CallsFor(size_t servers) { return std::max<uint64_t>(200'000, 200 * servers); }

std::ofstream OpenPlot(const std::string& name) {
  const std::string folder = absl::GetFlag(FLAGS_plot);
  std::ofstream file;
  if (folder.empty()) return file;
  file.open(std::filesystem::path(folder) / name);
  if (!file) {
    std::cerr << "cannot write " << name << " in " << folder << "\n";
    std::exit(1);
  }
  return file;
}

void PrintSpread(uint64_t seed) {
  std::cout << "Spread of the calls, at 70 % utilization: calls per server against the mean\n\n"
               "| servers | policy | most | 99 of 100 | variation | most at once | p50 | p99 |\n"
               "|--:|--|--:|--:|--:|--:|--:|--:|\n";
  std::ofstream data = OpenPlot("spread.data");
  for (const Policy& policy : kPolicies) {
    data << (&policy == kPolicies ? "" : "\n\n") << "\"" << policy.name << "\"\n";
    for (const size_t servers : kFleets) {
      const FleetOutcome outcome = Simulate({.servers = servers,
                                             .policy = policy.policy,
                                             .utilization = 0.7,
                                             .calls = CallsFor(servers),
                                             .seed = seed});
      std::cout << absl::StreamFormat("| %d | %s | %.3f | %.3f | %.3f | %d | %.1f ms | %.1f ms |\n", servers,
                                      policy.name, outcome.most, outcome.p99_share, outcome.variation,
                                      outcome.most_at_once, Millis(outcome.p50), Millis(outcome.p99));
      data << servers << " " << outcome.most << " " << outcome.variation << " " << Millis(outcome.p99)
           << "\n";
    }
  }
}

void PrintSlow(uint64_t seed) {
  std::cout << "\nOne server becomes 50 times slower, at 40 % utilization\n\n"
               "| servers | policy | its share | p50 | p99 | p99 when all are well | times |\n"
               "|--:|--|--:|--:|--:|--:|--:|\n";
  std::ofstream data = OpenPlot("slow.data");
  for (const Policy& policy : kPolicies) {
    data << (&policy == kPolicies ? "" : "\n\n") << "\"" << policy.name << "\"\n";
    for (const size_t servers : kFleets) {
      FleetScenario scenario = {
          .servers = servers, .policy = policy.policy, .calls = CallsFor(servers), .seed = seed};
      const FleetOutcome healthy = Simulate(scenario);
      scenario.slowness = 50;
      const FleetOutcome slow = Simulate(scenario);
      const double times = absl::FDivDuration(slow.p99, healthy.p99);
      std::cout << absl::StreamFormat("| %d | %s | %.4f %% | %.1f ms | %.1f ms | %.1f ms | %.2f |\n", servers,
                                      policy.name, 100 * slow.share_of_first, Millis(slow.p50),
                                      Millis(slow.p99), Millis(healthy.p99), times);
      data << servers << " " << times << "\n";
    }
  }
}

void PrintHotKeys(uint64_t seed) {
  std::cout << "\nConsistent hashing by one client of keys of which the k-th is 1/k as frequent as the "
               "first, at 70 %\n\n"
               "| servers | bound | most | variation | most at once | p99 |\n|--:|--|--:|--:|--:|--:|\n";
  for (const size_t servers : {10, 100, 1'000}) {
    for (const double bound : {1.25, 2.0, 1e9}) {
      const FleetOutcome outcome = Simulate({.servers = servers,
                                             .clients = 1,
                                             .policy = BalancingPolicy::kConsistentHash,
                                             .utilization = 0.7,
                                             .calls = CallsFor(servers),
                                             .zipf = true,
                                             .load_bound = bound,
                                             .seed = seed});
      std::cout << absl::StreamFormat("| %d | %s | %.2f | %.2f | %d | %.1f ms |\n", servers,
                                      bound > 1e6 ? "none" : absl::StrCat(bound), outcome.most,
                                      outcome.variation, outcome.most_at_once, Millis(outcome.p99));
    }
  }
}

void PrintKeysMoved() {
  constexpr uint64_t kKeys = 100'000;
  std::cout << "\nKeys that move when one server leaves, or comes back, of 100,000\n\n"
               "| servers | least possible on the average | moved, mean of 5 servers |\n|--:|--:|--:|\n";
  for (const size_t servers : kFleets) {
    double moved = 0;
    for (size_t i = 0; i < 5; ++i) {
      moved += static_cast<double>(KeysMoved(servers, i * servers / 5, kKeys)) / 5;
    }
    std::cout << absl::StreamFormat("| %d | %.0f | %.0f |\n", servers,
                                    static_cast<double>(kKeys) / static_cast<double>(servers), moved);
  }
}

void PrintSubsets(uint64_t seed) {
  std::cout
      << "\nSubsets of 20 servers: clients per server, and connections opened when one server leaves\n\n"
         "| servers | clients | ids | mean | least | most | variation | used it | opened |\n"
         "|--:|--:|--|--:|--:|--:|--:|--:|--:|\n";
  for (const size_t servers : {100, 1'000, 10'000}) {
    for (const size_t clients : {100, 1'000}) {
      for (const bool random_ids : {false, true}) {
        const SubsetOutcome outcome =
            SimulateSubsets({.servers = servers, .clients = clients, .random_ids = random_ids, .seed = seed});
        std::cout << absl::StreamFormat("| %d | %d | %s | %.1f | %.0f | %.0f | %.3f | %d | %d |\n", servers,
                                        clients, random_ids ? "random" : "0, 1, 2, ...", outcome.clients.mean,
                                        outcome.clients.least, outcome.clients.most,
                                        outcome.clients.variation, outcome.users, outcome.moved_by_leaving);
      }
    }
  }
}

}  // namespace
}  // namespace ferry::test

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Simulates the balancing policies on fleets of 3 to 10,000 servers.");
  absl::ParseCommandLine(argc, argv);
  const uint64_t seed = absl::GetFlag(FLAGS_seed);
  std::cout << "seed " << seed << "\n\n";
  ferry::test::PrintSpread(seed);
  ferry::test::PrintSlow(seed);
  ferry::test::PrintHotKeys(seed);
  ferry::test::PrintKeysMoved();
  ferry::test::PrintSubsets(seed);
  return 0;
}
