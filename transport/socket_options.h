// What a user may say of sockets.
#ifndef FERRY_TRANSPORT_SOCKET_OPTIONS_H_
#define FERRY_TRANSPORT_SOCKET_OPTIONS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"

namespace ferry::transport {

// SocketOptions are set on every socket before it is used; see tcp(7) and socket(7). The TCP ones mean
// nothing to Unix sockets.
struct SocketOptions {
  // TCP_NODELAY: what is written is sent at once. False lets the kernel collect small writes (Nagle's
  // algorithm), which helps bulk transfers of small pieces and nobody else.
  bool no_delay = true;

  // SO_KEEPALIVE: after keepalive_idle without a byte the kernel probes the peer every keepalive_interval,
  // and breaks the connection after keepalive_probes without an answer. Times are in whole seconds, rounded
  // up, at least 1.
  bool keepalive = true;
  absl::Duration keepalive_idle = absl::Seconds(60);
  absl::Duration keepalive_interval = absl::Seconds(10);
  int keepalive_probes = 3;

  // TCP_USER_TIMEOUT: how long sent data may go unacknowledged before the connection is broken, in
  // milliseconds; zero leaves it to the kernel (about a quarter of an hour).
  absl::Duration user_timeout = absl::Seconds(30);

  // SO_SNDBUF and SO_RCVBUF, in bytes; 0 leaves them to the kernel, which adapts them to the path.
  size_t send_buffer_bytes = 0;
  size_t receive_buffer_bytes = 0;
};

// The buffer that keeps a path of this throughput and round-trip time full: their product, for SocketOptions.
inline size_t BufferForPath(uint64_t bytes_per_second, absl::Duration round_trip) {
  return static_cast<size_t>(static_cast<double>(bytes_per_second) * absl::ToDoubleSeconds(round_trip));
}

// Sets `options` on `socket`, which is for addresses like `address`. INVALID_ARGUMENT, or the system's error,
// with the option and its value, if one cannot be had.
absl::Status ApplyOptions(const FileDescriptor& socket, const SocketAddress& address,
                          const SocketOptions& options);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_SOCKET_OPTIONS_H_
