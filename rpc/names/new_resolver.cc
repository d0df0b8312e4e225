#include "ferry/rpc/names/new_resolver.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/names/list_resolver.h"
#include "ferry/transport/socket_address.h"

namespace ferry {
namespace {

std::unique_ptr<Resolver> NewListResolverFor(const Target& target, transport::EventLoop& loop) {
  std::vector<ResolvedServer> servers;
  servers.reserve(target.addresses.size());
  for (const transport::SocketAddress& address : target.addresses) servers.push_back(ServerAt(address));
  return NewListResolver(std::move(servers), loop);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Resolver>> NewResolver(const Target& target, const ResolverOptions& options,
                                                      transport::EventLoop& loop) {
  loop.AssertInLoop();
  switch (target.kind) {
    case Target::Kind::kAddresses:
      return NewListResolverFor(target, loop);
    case Target::Kind::kDns: {
      DnsResolverOptions dns = options.dns;
      if (!target.authority.empty()) dns.servers = {target.authority};
      if (absl::Status valid = dns.Validate(); !valid.ok()) return valid;
      return NewDnsResolver({.name = target.name, .port = target.port}, dns, loop);
    }
    case Target::Kind::kFile:
      if (absl::Status valid = options.file.Validate(); !valid.ok()) return valid;
      return NewFileResolver(target.name, options.file, loop);
    case Target::Kind::kEtcd:
      if (options.etcd) return options.etcd(target, loop);
      break;
  }
  return absl::UnimplementedError(
      absl::StrCat("target \"", target.text, "\": no resolver for etcd was given (ResolverOptions::etcd)"));
}

}  // namespace ferry
