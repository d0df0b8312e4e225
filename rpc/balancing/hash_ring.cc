#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/types/span.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/balancing/pickers.h"
#include "ferry/rpc/balancing/server_load.h"

namespace ferry {
namespace {

// Of a server of median weight. The keys of a server then vary by 1/sqrt(100), a tenth, of their mean.
constexpr double kPoints = 100;
// Of one server, whatever its weight.
constexpr double kMostPoints = 100'000;
// How many points a pick looks at for a server with room. With the bound b at most 1/b of the servers are
// full: at 1.25 one search in 10^12 takes longer.
constexpr int kMostSteps = 128;

// A ring of points, some for each server, placed by its name and their number. A key goes to the server of
// the first point at or after it, or, if that one has its fill of calls, of the next (Mirrokni, Thorup and
// Zadimoghaddam, "Consistent hashing with bounded loads", 2018). A server's points are the first of an
// endless sequence, more for more weight: a change of weight moves only keys to it or from it.
class HashRing final : public Picker {
 public:
  HashRing(absl::Span<const GroupServer> group, const BalancingOptions& options)
      : load_bound_(options.load_bound), floor_(options.load_bound_floor) {
    std::vector<double> weights;
    weights.reserve(group.size());
    for (const GroupServer& server : group) {
      weights.push_back(server.weight);
      weight_sum_ += server.weight;
    }
    const auto middle = weights.begin() + static_cast<std::ptrdiff_t>(weights.size() / 2);
    std::nth_element(weights.begin(), middle, weights.end());
    servers_.reserve(group.size());
    for (const GroupServer& server : group) {
      Place(server, std::clamp(std::round(kPoints * server.weight / *middle), 1.0, kMostPoints));
    }
    std::sort(ring_.begin(), ring_.end());
  }

  std::optional<size_t> Pick(const PickArguments& arguments) const override {
    const double due = TotalInFlight() + 1;
    const Point key = {arguments.hash_key.has_value() ? *arguments.hash_key : arguments.random, 0};
    size_t at = static_cast<size_t>(std::lower_bound(ring_.begin(), ring_.end(), key) - ring_.begin());
    const Server* fallback = nullptr;
    for (int step = 0; step < kMostSteps; ++step, ++at) {
      const Server& server = servers_[ring_[at % ring_.size()].server];
      if (IsExcluded(arguments, server.index)) continue;
      if (HasRoom(server, due)) return server.index;
      if (fallback == nullptr || Fill(server) < Fill(*fallback)) fallback = &server;
    }
    if (fallback == nullptr) fallback = FirstNotExcluded(servers_, at % servers_.size(), arguments);
    return fallback != nullptr ? std::optional<size_t>(fallback->index) : std::nullopt;
  }

 private:
  struct Server {
    size_t index;
    double weight;
    std::shared_ptr<const ServerLoad> load;
  };
  struct Point {
    uint64_t hash;
    uint32_t server;

    // Two points at one place, of which there are hardly any, are in the order of the list.
    bool operator<(const Point& other) const {
      return hash != other.hash ? hash < other.hash : server < other.server;
    }
  };

  void Place(const GroupServer& server, double points) {
    const uint64_t name = HashOf(server.name);
    for (uint64_t i = 0; i < static_cast<uint64_t>(points); ++i) {
      ring_.push_back({Scatter(name + Scatter(i)), static_cast<uint32_t>(servers_.size())});
    }
    servers_.push_back({server.index, server.weight, server.load});
  }

  static double Fill(const Server& server) { return server.load->in_flight() / server.weight; }

  bool HasRoom(const Server& server, double due) const {
    const uint32_t in_flight = server.load->in_flight();
    return in_flight < floor_ || in_flight + 1 <= std::ceil(load_bound_ * due * server.weight / weight_sum_);
  }

  // How many calls are in flight: summed up once in n picks, so that it takes O(1) on the average. In n picks
  // the mean of n servers changes by 1 at most.
  double TotalInFlight() const {
    if (picks_.fetch_add(1, std::memory_order_relaxed) % servers_.size() == 0) {
      uint64_t sum = 0;
      for (const Server& server : servers_) sum += server.load->in_flight();
      total_in_flight_.store(sum, std::memory_order_relaxed);
    }
    return static_cast<double>(total_in_flight_.load(std::memory_order_relaxed));
  }

  const double load_bound_;
  const uint32_t floor_;
  std::vector<Server> servers_;
  // Ascending.
  std::vector<Point> ring_;
  double weight_sum_ = 0;
  // Apart from what all threads read. They order nothing else.
  alignas(ABSL_CACHELINE_SIZE) mutable std::atomic<uint64_t> picks_{0};
  mutable std::atomic<uint64_t> total_in_flight_{0};
};

}  // namespace

std::unique_ptr<Picker> MakeConsistentHash(absl::Span<const GroupServer> group,
                                           const BalancingOptions& options) {
  return std::make_unique<HashRing>(group, options);
}

}  // namespace ferry
