// Turning the name of a service into its servers.
#ifndef FERRY_RPC_NAMES_RESOLVER_H_
#define FERRY_RPC_NAMES_RESOLVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/transport/socket_address.h"

namespace ferry {

// A ResolvedServer is one server of a service, by whatever addresses it can be reached: a value.
struct ResolvedServer {
  // What it goes by in errors, statistics and hashing: "127.0.0.1:7000". Two servers of one list have
  // different names; a server that is in two lists in a row under one name and with the same addresses is the
  // same one.
  std::string name;

  // At least one, in the order in which to try them: several if its host has addresses of both families.
  std::vector<transport::SocketAddress> addresses;

  // Its share of the calls, against those of the others. At least 1.
  uint32_t weight = 1;

  // Where it is, for those who prefer what is near: "region/zone". Empty if nobody said.
  std::string locality;

  // Those with the smallest value are used while enough of them work. As the priority of an SRV record.
  uint32_t priority = 0;
};

// A Resolver keeps looking for the servers of one name, and tells its watcher what it finds.
//
// Belongs to one loop: created, called and destroyed there, and its watcher is called there. Never blocks.
// Destroying it ends the search at once; the watcher is not called any more.
class Resolver {
 public:
  // Told of what was found.
  class Watcher {
   public:
    virtual ~Watcher() = default;

    // `servers` are all there are now: what was told before no longer counts. An error says, with the name,
    // why none were found, or what could not be found out: what was told before goes on counting. That there
    // are none is an error too, and a list without servers counts as one. May destroy the resolver. Never
    // called inside Start or ResolveAgain.
    virtual void OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) = 0;
  };

  virtual ~Resolver() = default;

  // Begins. `watcher` is not owned, and must outlive the resolver. Called once.
  virtual void Start(Watcher& watcher) = 0;

  // What was found seems to be out of date, for a server could not be reached: looks again, though no sooner
  // than the resolver's own bound after the last time. Costs nothing where the resolver is told of changes.
  virtual void ResolveAgain() = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_RESOLVER_H_
