// Addresses as people write them.
#ifndef FERRY_TRANSPORT_ADDRESS_H_
#define FERRY_TRANSPORT_ADDRESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/transport/socket_address.h"

namespace ferry::transport {

// An Address is where to listen or to connect, before any name in it is looked up: a value.
//
//     host:port            a name or an IPv4 address; port 0 is any free one, to listen on
//     [v6]:port            an IPv6 address
//     unix:/path           a Unix socket; a path may be relative, of at most 107 bytes
//     unix-abstract:name   a Unix socket without a file; a name of at most 107 bytes
class Address {
 public:
  enum class Kind { kTcp, kUnixPath, kUnixAbstract };

  // INVALID_ARGUMENT, with the text and what is wrong with it, if `text` is none of the above.
  static absl::StatusOr<Address> Parse(std::string_view text);

  Kind kind() const { return kind_; }
  // The host without brackets, the path or the name.
  const std::string& name() const { return name_; }
  // 0 unless kTcp.
  uint16_t port() const { return port_; }

  // In the form that Parse reads.
  std::string ToString() const;

 private:
  Address(Kind kind, std::string_view name, uint16_t port) : kind_(kind), name_(name), port_(port) {}

  static absl::StatusOr<Address> ParseTcp(std::string_view text);
  static absl::StatusOr<Address> ParseUnix(Kind kind, std::string_view text, std::string_view name);

  Kind kind_;
  std::string name_;
  uint16_t port_;
};

// The socket address of `address` if that needs no looking up: of an IP address or a Unix socket. nullopt if
// the host is a name. Never blocks.
std::optional<SocketAddress> LiteralAddress(const Address& address);

// The socket addresses of `address`, in the order in which to try them; at least one. Looks a host name up
// with the system's resolver, which may block for seconds: not for a loop's thread. UNAVAILABLE, with the
// name and the resolver's own words, if it cannot be found.
absl::StatusOr<std::vector<SocketAddress>> Resolve(const Address& address);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_ADDRESS_H_
