#include "ferry/transport/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ferry/transport/socket.h"

namespace ferry::transport {
namespace {

constexpr size_t kMaxInt = std::numeric_limits<int>::max();

int WholeSeconds(absl::Duration d) {
  return static_cast<int>(
      std::clamp<int64_t>(absl::ToInt64Seconds(absl::Ceil(d, absl::Seconds(1))), 1, 32767));
}

absl::Status SetBuffer(const FileDescriptor& socket, int option, size_t bytes, const char* name) {
  if (bytes == 0) return absl::OkStatus();
  if (bytes > kMaxInt) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", bytes, " bytes, limit is ", kMaxInt));
  }
  return SetOption(socket, SOL_SOCKET, option, static_cast<int>(bytes), name);
}

absl::Status SetKeepalive(const FileDescriptor& socket, const SocketOptions& options) {
  if (!options.keepalive) return absl::OkStatus();
  absl::Status status = SetOption(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  status.Update(
      SetOption(socket, IPPROTO_TCP, TCP_KEEPIDLE, WholeSeconds(options.keepalive_idle), "TCP_KEEPIDLE"));
  status.Update(SetOption(socket, IPPROTO_TCP, TCP_KEEPINTVL, WholeSeconds(options.keepalive_interval),
                          "TCP_KEEPINTVL"));
  status.Update(SetOption(socket, IPPROTO_TCP, TCP_KEEPCNT, options.keepalive_probes, "TCP_KEEPCNT"));
  return status;
}

}  // namespace

absl::Status ApplyOptions(const FileDescriptor& socket, const SocketAddress& address,
                          const SocketOptions& options) {
  absl::Status status = SetBuffer(socket, SO_SNDBUF, options.send_buffer_bytes, "SO_SNDBUF");
  status.Update(SetBuffer(socket, SO_RCVBUF, options.receive_buffer_bytes, "SO_RCVBUF"));
  if (!address.is_tcp()) return status;
  if (options.no_delay) status.Update(SetOption(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  status.Update(SetKeepalive(socket, options));
  const int64_t ms = absl::ToInt64Milliseconds(options.user_timeout);
  if (ms > 0) {
    status.Update(SetOption(socket, IPPROTO_TCP, TCP_USER_TIMEOUT,
                            static_cast<int>(std::min<int64_t>(ms, kMaxInt)), "TCP_USER_TIMEOUT"));
  }
  return status;
}

}  // namespace ferry::transport
