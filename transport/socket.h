// The system's stream sockets.
#ifndef FERRY_TRANSPORT_SOCKET_H_
#define FERRY_TRANSPORT_SOCKET_H_

#include <sys/uio.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"

namespace ferry::transport {

// Every socket made here is non-blocking and closed by exec. Errors name what failed, the address and the
// system's reason: "cannot bind 127.0.0.1:80: Permission denied". Nothing raises SIGPIPE.

// A stream socket for addresses like `address`.
absl::StatusOr<FileDescriptor> OpenSocket(const SocketAddress& address);

absl::Status Bind(const FileDescriptor& socket, const SocketAddress& address);

// `address` is for the error. `backlog` connections may wait to be accepted.
absl::Status Listen(const FileDescriptor& socket, int backlog, const SocketAddress& address);

// The outcome of one try to accept a connection.
struct AcceptResult {
  enum class State {
    kAccepted,
    kNone,           // nobody is waiting
    kTryNext,        // whoever was waiting has gone, or was refused by the firewall: the next may be fine
    kOutOfResources  // no descriptor or memory for it: try again later; `status` says what is lacking
  };
  State state = State::kNone;
  FileDescriptor socket;
  SocketAddress peer;
  absl::Status status;
};
// `address` is for the error.
AcceptResult Accept(const FileDescriptor& listening, const SocketAddress& address);

enum class ConnectState {
  kConnected,
  kInProgress,  // the socket becomes writable when it is decided; then see FinishConnect
  kQueueFull,   // Unix sockets only: the listener's backlog is full; try again later
};
// Failures are of code UNAVAILABLE.
absl::StatusOr<ConnectState> StartConnect(const FileDescriptor& socket, const SocketAddress& address);
absl::Status FinishConnect(const FileDescriptor& socket, const SocketAddress& address);

// Whether a server listens on `address`, a Unix socket's path; false too if there is nothing at all. An error
// if that cannot be told, since what is there may not be connected to or is no stream socket.
absl::StatusOr<bool> IsListenedOn(const SocketAddress& address);

// Where the socket is bound.
absl::StatusOr<SocketAddress> LocalAddress(const FileDescriptor& socket);

// `name` is `option`'s, for the error: "cannot set TCP_NODELAY to 1: Invalid argument".
absl::Status SetOption(const FileDescriptor& socket, int level, int option, int value, const char* name);

// One non-blocking read into, or write from, `parts`. `peer` is for the error, which is of code UNAVAILABLE.
// A done one says that there is no more to do at once if it moved less than it might; see epoll(7),
// "Questions and answers".
IoResult Receive(const FileDescriptor& socket, absl::Span<const iovec> parts, const SocketAddress& peer);
IoResult Send(const FileDescriptor& socket, absl::Span<const iovec> parts, const SocketAddress& peer);

// Ends writing, or both directions. That the peer is gone already is no error, and there is no other.
void ShutdownWriting(const FileDescriptor& socket);
void ShutdownBoth(const FileDescriptor& socket);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_SOCKET_H_
