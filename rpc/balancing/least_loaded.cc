#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/balancing/pickers.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/transport/clock.h"

namespace ferry {
namespace {

// How often a draw is tried again that gave the first choice once more, or an excluded server.
constexpr int kRedraws = 4;
// Estimates of latency that differ by less are noise: then calls in flight alone decide.
constexpr double kClearDifference = 2;

// Draws two servers, each as often as its weight says, and takes the less loaded. Two are nearly as good as
// all (Mitzenmacher, "The power of two choices in randomized load balancing", 2001), and unlike the least of
// all they do not send every client of a service to the same server at once.
class LeastLoaded final : public Picker {
 public:
  explicit LeastLoaded(absl::Span<const GroupServer> group) {
    double sum = 0;
    for (const GroupServer& server : group) sum += server.weight;
    const double mean = sum / static_cast<double>(group.size());
    servers_.reserve(group.size());
    for (const GroupServer& server : group) {
      servers_.push_back({server.index, server.weight / mean, server.load, 1, 0});
    }
    MakeAliases();
  }

  std::optional<size_t> Pick(const PickArguments& arguments) const override {
    uint64_t random = arguments.random;
    const Server* first = Draw(random, arguments, nullptr);
    if (first == nullptr) return std::nullopt;
    const Server* second = Draw(random, arguments, first);
    return second != nullptr && IsBetter(*second, *first, arguments.now) ? second->index : first->index;
  }

 private:
  struct Server {
    size_t index;
    // Against the mean of the group.
    double weight;
    std::shared_ptr<const ServerLoad> load;
    // A draw that hits this server takes it with this probability, and otherwise the alias.
    double own_share;
    size_t alias;
  };

  // Vose's form of Walker's alias method: n equal columns, each shared by at most two servers, so that a draw
  // by weight takes O(1).
  void MakeAliases() {
    std::vector<double> share;
    share.reserve(servers_.size());
    std::vector<size_t> small;
    std::vector<size_t> large;
    for (size_t i = 0; i < servers_.size(); ++i) {
      share.push_back(servers_[i].weight);
      (share[i] < 1 ? small : large).push_back(i);
      servers_[i].alias = i;
    }
    while (!small.empty() && !large.empty()) {
      const size_t poor = small.back();
      const size_t rich = large.back();
      small.pop_back();
      servers_[poor].own_share = share[poor];
      servers_[poor].alias = rich;
      share[rich] -= 1 - share[poor];
      if (share[rich] >= 1) continue;
      large.pop_back();
      small.push_back(rich);
    }
  }

  // A server that is not excluded and not `other`; null if there is none. If `other` or excluded servers have
  // so much of the weight that the draws keep giving them, any of the rest: it can lose the comparison, but
  // without one a slow server would be chosen now and then.
  const Server* Draw(uint64_t& random, const PickArguments& arguments, const Server* other) const {
    for (int i = 0; i < kRedraws; ++i) {
      random = Scatter(random);
      const Server& column = servers_[Scale(random, servers_.size())];
      random = Scatter(random);
      const Server& server = Fraction(random) < column.own_share ? column : servers_[column.alias];
      if (&server != other && !IsExcluded(arguments, server.index)) return &server;
    }
    const size_t start = Scale(random, servers_.size());
    for (size_t i = 0; i < servers_.size(); ++i) {
      const Server& server = servers_[(start + i) % servers_.size()];
      if (&server != other && !IsExcluded(arguments, server.index)) return &server;
    }
    return nullptr;
  }

  // A server of which nothing is known is taken to be as quick as the other one. So it gets calls, but never
  // more in flight than its weight is due against the other.
  static bool IsBetter(const Server& a, const Server& b, transport::Instant now) {
    // The 1 is the call to be sent. It is not divided by the weight: among servers with nothing in flight the
    // draw has already counted that.
    double cost_a = 1 + a.load->in_flight() / a.weight;
    double cost_b = 1 + b.load->in_flight() / b.weight;
    const double latency_a = a.load->LatencyNanos(now);
    const double latency_b = b.load->LatencyNanos(now);
    if (latency_a > 0 && latency_b > 0 &&
        std::max(latency_a, latency_b) > kClearDifference * std::min(latency_a, latency_b)) {
      cost_a *= latency_a;
      cost_b *= latency_b;
    }
    return cost_a < cost_b;
  }

  std::vector<Server> servers_;
};

}  // namespace

std::unique_ptr<Picker> MakeLeastLoaded(absl::Span<const GroupServer> group) {
  return std::make_unique<LeastLoaded>(group);
}

}  // namespace ferry
