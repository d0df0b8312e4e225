// The servers of a simulated service, as its clients are told of them.
#ifndef FERRY_TESTS_SIMULATION_SERVICE_NAMES_H_
#define FERRY_TESTS_SIMULATION_SERVICE_NAMES_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "tests/simulation/network.h"

namespace ferry::simulation {

// ServiceNames tell every client the same list of places, and each change of it.
//
// Thread-compatible. They must outlive the resolvers, and the network the connectors.
class ServiceNames {
 public:
  explicit ServiceNames(transport::EventLoop& client) : client_(client) {}

  // For Fleet::Create.
  Fleet::ResolverFactory NewResolver();
  static Fleet::ConnectorFactory NewConnector(Network& network);

  // What there is from now on, or why nothing can be found out. Told when the client's loop runs.
  void Tell(const std::vector<size_t>& places);
  void Fail(const absl::Status& why);

 private:
  class FromNames;

  void TellLater(FromNames& resolver);
  void TellAll();

  transport::EventLoop& client_;
  absl::StatusOr<std::vector<ResolvedServer>> found_ = std::vector<ResolvedServer>();
  // Those that are started, in that order; not owned.
  std::vector<FromNames*> resolvers_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_SERVICE_NAMES_H_
