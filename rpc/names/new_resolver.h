// The resolver that goes with a target.
#ifndef FERRY_RPC_NAMES_NEW_RESOLVER_H_
#define FERRY_RPC_NAMES_NEW_RESOLVER_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "ferry/rpc/names/dns_resolver.h"
#include "ferry/rpc/names/file_resolver.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/rpc/names/target.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

struct ResolverOptions {
  DnsResolverOptions dns;
  FileResolverOptions file;
  // Makes the resolver of an etcd: target; empty where there is none.
  std::function<absl::StatusOr<std::unique_ptr<Resolver>>(const Target& target, transport::EventLoop& loop)>
      etcd;
};

// A resolver for `target`, which asks the DNS server that it names in place of those in `options`.
// INVALID_ARGUMENT, with the option, if what `target` needs of `options` is invalid; UNIMPLEMENTED for an
// etcd: target if there is no `options.etcd`. `loop` is not owned. On the loop.
absl::StatusOr<std::unique_ptr<Resolver>> NewResolver(const Target& target, const ResolverOptions& options,
                                                      transport::EventLoop& loop);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_NEW_RESOLVER_H_
