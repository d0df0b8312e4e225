// The servers of a service that etcd knows: "etcd:///service".
#ifndef FERRY_RPC_NAMES_ETCD_RESOLVER_H_
#define FERRY_RPC_NAMES_ETCD_RESOLVER_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// A Resolver that reads the keys of `service` (ETCD.md has their layout), and watches them from there on:
// OnServers is called with every change, in the order of the keys.
//
// - An entry that is malformed counts as it was when it was not, or else is left out; an error that names key
//   and value follows the list.
// - That there are no servers, or no longer any, is an error.
// - When etcd is away an error is told after one failure more than etcd has members, and then with each; the
//   resolver goes on trying, with backoff (EtcdOptions), and begins again with the whole list.
// - ResolveAgain does nothing, for etcd tells of changes by itself.
//
// INVALID_ARGUMENT if the name or an option cannot be. Called on `loop`, which must outlive the resolver.
absl::StatusOr<std::unique_ptr<Resolver>> NewEtcdResolver(transport::EventLoop& loop,
                                                          std::string_view service,
                                                          const EtcdOptions& options);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_RESOLVER_H_
