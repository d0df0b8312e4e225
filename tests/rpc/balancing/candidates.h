// Servers for tests of balancing.
#ifndef FERRY_TESTS_RPC_BALANCING_CANDIDATES_H_
#define FERRY_TESTS_RPC_BALANCING_CANDIDATES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/transport/clock.h"
#include "tests/testing/random.h"

namespace ferry::test {

// Candidates are the servers of one service, called "server-0" and so on, each with a load of its own.
//
// Thread-compatible; the loads are Thread-safe.
class Candidates {
 public:
  explicit Candidates(const std::vector<uint32_t>& weights) {
    for (const uint32_t weight : weights) Add(weight);
  }
  static Candidates Equal(size_t count) { return Candidates(std::vector<uint32_t>(count, 1)); }

  Candidate& Add(uint32_t weight = 1) {
    loads_.push_back(std::make_shared<ServerLoad>());
    // A deque's elements stay where they are.
    names_.push_back(absl::StrCat("server-", names_.size()));
    all_.push_back({.name = names_.back(), .weight = weight, .load = loads_.back()});
    return all_.back();
  }

  ServerLoad& load(size_t i) { return *loads_[i]; }
  Candidate& operator[](size_t i) { return all_[i]; }
  std::vector<Candidate>& all() { return all_; }

  std::shared_ptr<const Picker> MakePicker(const BalancingOptions& options) {
    return Balancer::Create(options, /*seed=*/7).value()->MakePicker(all_);
  }

  // A call that took `latency` and ended at `now`.
  void Complete(size_t i, transport::Instant now, absl::Duration latency, bool ok = true) {
    loads_[i]->OnStart();
    loads_[i]->OnEnd(now, now + -latency, ok);
  }

 private:
  std::vector<std::shared_ptr<ServerLoad>> loads_;
  std::deque<std::string> names_;
  std::vector<Candidate> all_;
};

// How often each of `servers` servers is picked in `picks` picks that start no call.
inline std::vector<uint64_t> CountPicks(const Picker& picker, size_t servers, uint64_t picks, Random& random,
                                        transport::Instant now = {}) {
  std::vector<uint64_t> counts(servers);
  for (uint64_t i = 0; i < picks; ++i) {
    const std::optional<size_t> index = picker.Pick({.now = now, .random = random.Number(0, UINT64_MAX)});
    ++counts.at(index.value());
  }
  return counts;
}

// Pearson's statistic of `counts` against `shares`, which add up to 1. Its mean is the number of counts less
// one, f, its variance 2f: over f + 6 * sqrt(2f) it is once in many millions of times, for f over about 10.
inline double ChiSquare(const std::vector<uint64_t>& counts, const std::vector<double>& shares) {
  double sum = 0;
  for (const uint64_t count : counts) sum += static_cast<double>(count);
  double statistic = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = sum * shares[i];
    const double off = static_cast<double>(counts[i]) - expected;
    statistic += off * off / expected;
  }
  return statistic;
}

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_BALANCING_CANDIDATES_H_
