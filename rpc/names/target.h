// What a channel is made to.
#ifndef FERRY_RPC_NAMES_TARGET_H_
#define FERRY_RPC_NAMES_TARGET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/transport/socket_address.h"

namespace ferry {

// A Target says where the servers of a service are to be looked for: a value.
//
//     127.0.0.1:7000, [::1]:7000              one server, by its address
//     unix:/path, unix-abstract:name          the same (transport/address.h)
//     ipv4:10.0.0.1:7000,10.0.0.2:7000        several servers, by their IPv4 addresses
//     ipv6:[::1]:7000,[::2]:7000              or IPv6 addresses
//     list:///10.0.0.1:7000,unix:/path        or by any of these
//     host:port, dns:///host:port             the host's addresses in DNS, each a server
//     dns:///host                             the servers in the SRV records of _ferry._tcp.host
//     dns:///_grpc._tcp.host                  the servers in these SRV records
//     dns://10.0.0.53/host:port               any of the three, asking this DNS server,
//     dns://10.0.0.53:5353/host               or at another port than 53
//     file:///path                            the servers in a file (file_resolver.h); an absolute path
//     etcd:///service                         the servers that are registered in etcd
//
// ipv4:, ipv6: and dns: are as in gRPC's naming document; but a scheme other than these, unix: and
// unix-abstract: ends with "://", for "dns:53" and "etcd:2379" are hosts with ports. Nothing is %-decoded.
struct Target {
  enum class Kind { kAddresses, kDns, kFile, kEtcd };

  Kind kind = Kind::kAddresses;

  // As it was written, for errors.
  std::string text = {};

  // kAddresses: at least one, all different.
  std::vector<transport::SocketAddress> addresses = {};

  // kDns: the host, or the name of the SRV records if there is no port. kFile: the path. kEtcd: the service.
  std::string name = {};

  // kDns: the servers' port; nullopt if the SRV records say it.
  std::optional<uint16_t> port = std::nullopt;

  // kDns: the DNS server to ask, as "10.0.0.53:53"; empty for those of the system. kEtcd: what stands between
  // "etcd://" and the next '/', as it is.
  std::string authority = {};
};

// INVALID_ARGUMENT, with the text and what is wrong with it, if `text` is none of the above. Never blocks.
absl::StatusOr<Target> ParseTarget(std::string_view text);

// "10.0.0.53:53" out of "10.0.0.53", "10.0.0.53:53" or their like in IPv6, "[::1]" or "[::1]:53".
// INVALID_ARGUMENT, with the text and what is wrong with it, if `text` is none of them.
absl::StatusOr<std::string> ParseDnsServer(std::string_view text);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_TARGET_H_
