// Servers whose addresses are known.
#ifndef FERRY_RPC_NAMES_LIST_RESOLVER_H_
#define FERRY_RPC_NAMES_LIST_RESOLVER_H_

#include <memory>
#include <vector>

#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/socket_address.h"

namespace ferry {

// The server that is at `address`, and goes by it.
ResolvedServer ServerAt(const transport::SocketAddress& address);

// A resolver that tells its watcher of `servers` once, and of nothing else. `loop` is not owned.
std::unique_ptr<Resolver> NewListResolver(std::vector<ResolvedServer> servers, transport::EventLoop& loop);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_LIST_RESOLVER_H_
