// The file in which a machine's keeper names hosts: /etc/hosts.
#ifndef FERRY_RPC_NAMES_HOSTS_FILE_H_
#define FERRY_RPC_NAMES_HOSTS_FILE_H_

#include <string_view>
#include <vector>

#include "ferry/transport/socket_address.h"

namespace ferry {

// Whether `name` is this machine's own by definition, and not to be asked for: "localhost", and what ends
// with
// ".localhost" (RFC 6761, section 6.3).
bool IsLocalhost(std::string_view name);

// The loopback addresses of both families, ::1 first; with port 0.
std::vector<transport::SocketAddress> LocalhostAddresses();

// The addresses of the host `name` in `text`, in the order in which they stand there, with port 0; see
// hosts(5). Empty if it is not there. Lines that cannot be read are skipped, as the system does.
std::vector<transport::SocketAddress> FindInHosts(std::string_view text, std::string_view name);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_HOSTS_FILE_H_
