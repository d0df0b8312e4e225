#include "ferry/rpc/names/etcd_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/address.h"

namespace ferry {

using transport::Address;
using transport::SocketAddress;

absl::StatusOr<SocketAddress> ParseLiteralAddress(std::string_view text) {
  const absl::StatusOr<Address> parsed = Address::Parse(text);
  if (!parsed.ok()) return parsed.status();
  if (parsed->kind() == Address::Kind::kUnixPath) return SocketAddress::UnixPath(parsed->name());
  if (parsed->kind() == Address::Kind::kUnixAbstract) return SocketAddress::UnixAbstract(parsed->name());
  if (parsed->port() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("'", std::string(text), "' has port 0"));
  }
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(parsed->port());
  if (inet_pton(AF_INET, parsed->name().c_str(), &v4.sin_addr) == 1) {
    return SocketAddress(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  }
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(parsed->port());
  if (inet_pton(AF_INET6, parsed->name().c_str(), &v6.sin6_addr) == 1) {
    return SocketAddress(reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", std::string(text), "': ", parsed->name(), " is not an IP address"));
}

}  // namespace ferry
