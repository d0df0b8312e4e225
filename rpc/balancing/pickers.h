// The pickers of the policies, each among one group of servers: what balancer.cc puts together.
#ifndef FERRY_RPC_BALANCING_PICKERS_H_
#define FERRY_RPC_BALANCING_PICKERS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/server_load.h"

namespace ferry {

// A GroupServer is one usable server of the group: a value.
struct GroupServer {
  // Among the candidates that the balancer was given.
  size_t index;
  // Views the candidate's: not to be kept.
  absl::string_view name;
  // The candidate's weight times its factor. Over 0.
  double weight;
  std::shared_ptr<const ServerLoad> load;
};

// The pickers of the policies. `group` is not empty. Their Pick returns GroupServer::index.
std::unique_ptr<Picker> MakePickFirst(absl::Span<const GroupServer> group);
// `start` decides where it begins.
std::unique_ptr<Picker> MakeRoundRobin(absl::Span<const GroupServer> group, uint64_t start);
std::unique_ptr<Picker> MakeLeastLoaded(absl::Span<const GroupServer> group);
std::unique_ptr<Picker> MakeConsistentHash(absl::Span<const GroupServer> group,
                                           const BalancingOptions& options);

// Whether a pick may not choose `index`.
inline bool IsExcluded(const PickArguments& arguments, size_t index) {
  return std::find(arguments.exclude.begin(), arguments.exclude.end(), index) != arguments.exclude.end();
}

// The first of `servers` (anything with an `index`), going round from `start`, that is not excluded. Indices
// differ, so that it is found within exclude.size() + 1 steps.
template <typename Server>
const Server* FirstNotExcluded(const std::vector<Server>& servers, size_t start,
                               const PickArguments& arguments) {
  for (size_t i = 0; i < servers.size(); ++i) {
    const Server& server = servers[(start + i) % servers.size()];
    if (!IsExcluded(arguments, server.index)) return &server;
  }
  return nullptr;
}

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_PICKERS_H_
