#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/types/span.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/balancing/pickers.h"

namespace ferry {
namespace {

// Weights are counted in thousandths: as fine as Candidate::kMinFactor.
constexpr double kUnitsOfWeight = 1000;

// Of how many steps the best one is chosen at most.
constexpr uint64_t kMaxSteps = 64;

// The sum of the partial quotients of the continued fraction of a / b. How far the multiples of a, modulo b,
// are from being spread evenly is bounded by it (Ostrowski).
uint64_t SumOfQuotients(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  while (b != 0) {
    sum += a / b;
    const uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return sum;
}

// A number prime to `circumference`, near it over the golden ratio, whose multiples are spread most evenly.
// The golden ratio has the smallest quotients of all, but the first number beside it that is prime to the
// circumference may have a large one further on: 2639 / 1630 ends with 77.
uint64_t StepFor(uint64_t circumference) {
  constexpr double kGoldenRatio = 0.6180339887498949;
  const auto nearest = static_cast<uint64_t>(static_cast<double>(circumference) * kGoldenRatio);
  uint64_t best = 1;
  uint64_t best_sum = circumference;
  const uint64_t count = std::min(kMaxSteps, 8 + circumference / 32);
  for (uint64_t step = nearest; step < std::min(nearest + count, circumference); ++step) {
    if (std::gcd(step, circumference) != 1) continue;
    const uint64_t sum = SumOfQuotients(circumference, step);
    if (sum >= best_sum) continue;
    best = step;
    best_sum = sum;
  }
  return best;
}

// The servers stand side by side on a circle, each as long as its weight: W units all together. Pick k takes
// the one at k * S mod W, with S near W over the golden ratio and prime to W. So W picks in a row meet each
// unit once: the shares are exact. And as multiples of the golden ratio are spread over a circle as evenly as
// can be, any number of picks in a row gives each server its due within few picks: there are no bursts.
//
// With equal weights a unit is a server: each is picked once in n picks.
class RoundRobin final : public Picker {
 public:
  RoundRobin(absl::Span<const GroupServer> group, uint64_t start) {
    servers_.reserve(group.size());
    uint64_t unit = 0;
    for (const GroupServer& server : group) {
      const auto weight = static_cast<uint64_t>(std::max(1.0, std::round(server.weight * kUnitsOfWeight)));
      servers_.push_back({server.index, weight});
      unit = std::gcd(unit, weight);
    }
    for (Server& server : servers_) {
      circumference_ += server.end / unit;
      server.end = circumference_;
    }
    step_ = StepFor(circumference_);
    next_.store(Scale(start, circumference_), std::memory_order_relaxed);
  }

  std::optional<size_t> Pick(const PickArguments& arguments) const override {
    const size_t tries = arguments.exclude.empty() ? 1 : 2 + 2 * arguments.exclude.size();
    for (size_t i = 0; i < tries; ++i) {
      const size_t index = Next().index;
      if (!IsExcluded(arguments, index)) return index;
    }
    const Server* other = FirstNotExcluded(servers_, Scale(arguments.random, servers_.size()), arguments);
    return other != nullptr ? std::optional<size_t>(other->index) : std::nullopt;
  }

 private:
  struct Server {
    size_t index;
    // Where it ends on the circle; it begins where the one before it ends.
    uint64_t end;
  };

  const Server& Next() const {
    const uint64_t turn = next_.fetch_add(1, std::memory_order_relaxed) % circumference_;
    const auto at = static_cast<uint64_t>(static_cast<unsigned __int128>(turn) * step_ % circumference_);
    return *std::upper_bound(servers_.begin(), servers_.end(), at,
                             [](uint64_t place, const Server& server) { return place < server.end; });
  }

  std::vector<Server> servers_;
  uint64_t circumference_ = 0;
  uint64_t step_ = 0;
  // Apart from what all threads read. A counter that orders nothing else. It never runs over: 2^64 picks.
  alignas(ABSL_CACHELINE_SIZE) mutable std::atomic<uint64_t> next_{0};
};

}  // namespace

std::unique_ptr<Picker> MakeRoundRobin(absl::Span<const GroupServer> group, uint64_t start) {
  return std::make_unique<RoundRobin>(group, start);
}

}  // namespace ferry
