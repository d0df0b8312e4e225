// Addresses without names.
#ifndef FERRY_RPC_NAMES_ETCD_ADDRESS_H_
#define FERRY_RPC_NAMES_ETCD_ADDRESS_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "ferry/transport/socket_address.h"

namespace ferry {

// The address that `text` is: an IP address and port, or a Unix socket. INVALID_ARGUMENT, with the text and
// what is wrong, also for a host name: nothing is looked up, so nothing is waited for.
absl::StatusOr<transport::SocketAddress> ParseLiteralAddress(std::string_view text);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_ADDRESS_H_
