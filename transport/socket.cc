#include "ferry/transport/socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/error_number.h"

namespace ferry::transport {
namespace {

std::string With(const char* what, const SocketAddress& address) {
  return absl::StrCat(what, " ", address.ToString());
}

// What breaks a connection is UNAVAILABLE, whatever code its error number has by itself.
absl::Status Unavailable(int error, const char* what, const SocketAddress& address) {
  return WithErrorNumber(
      absl::UnavailableError(absl::StrCat(std::string(ErrorStatus(error, With(what, address)).message()),
                                          " (", ErrorName(error), ")")),
      error);
}

size_t TotalSize(absl::Span<const iovec> parts) {
  size_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

bool WouldBlock(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

msghdr Message(absl::Span<const iovec> parts) {
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  return message;
}

// What the kernel has to say of the socket, which it says once; 0 if nothing is wrong.
int TakeError(const FileDescriptor& socket) {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

}  // namespace

absl::StatusOr<FileDescriptor> OpenSocket(const SocketAddress& address) {
  FileDescriptor fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.open()) return LastError(With("cannot open a socket for", address));
  return fd;
}

absl::Status Bind(const FileDescriptor& socket, const SocketAddress& address) {
  if (bind(socket.get(), address.data(), address.size()) != 0) return LastError(With("cannot bind", address));
  return absl::OkStatus();
}

absl::Status Listen(const FileDescriptor& socket, int backlog, const SocketAddress& address) {
  if (listen(socket.get(), backlog) != 0) return LastError(With("cannot listen on", address));
  return absl::OkStatus();
}

AcceptResult Accept(const FileDescriptor& listening, const SocketAddress& address) {
  AcceptResult result;
  result.socket = FileDescriptor(accept4(listening.get(), result.peer.mutable_data(),
                                         result.peer.mutable_size(), SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (result.socket.open()) {
    result.state = AcceptResult::State::kAccepted;
  } else if (WouldBlock(errno)) {
    result.state = AcceptResult::State::kNone;
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    result.state = AcceptResult::State::kOutOfResources;
    result.status = LastError(With("cannot accept on", address));
  } else {
    // accept(2): errors that the new connection already has are reported here too.
    result.state = AcceptResult::State::kTryNext;
  }
  return result;
}

absl::StatusOr<ConnectState> StartConnect(const FileDescriptor& socket, const SocketAddress& address) {
  if (connect(socket.get(), address.data(), address.size()) == 0) return ConnectState::kConnected;
  // A connect that a signal interrupts goes on by itself.
  if (errno == EINPROGRESS || errno == EINTR) return ConnectState::kInProgress;
  if (errno == EAGAIN && address.is_unix()) return ConnectState::kQueueFull;
  return Unavailable(errno, "cannot connect to", address);
}

absl::Status FinishConnect(const FileDescriptor& socket, const SocketAddress& address) {
  const int error = TakeError(socket);
  if (error != 0) return Unavailable(error, "cannot connect to", address);
  return absl::OkStatus();
}

absl::StatusOr<bool> IsListenedOn(const SocketAddress& address) {
  absl::StatusOr<FileDescriptor> probe = OpenSocket(address);
  if (!probe.ok()) return probe.status();
  if (connect(probe->get(), address.data(), address.size()) == 0 || WouldBlock(errno)) return true;
  if (errno == ECONNREFUSED || errno == ENOENT) return false;
  return LastError(With("cannot tell whether a server listens on", address));
}

absl::StatusOr<SocketAddress> LocalAddress(const FileDescriptor& socket) {
  SocketAddress address;
  if (getsockname(socket.get(), address.mutable_data(), address.mutable_size()) != 0) {
    return LastError("cannot tell a socket's address");
  }
  return address;
}

absl::Status SetOption(const FileDescriptor& socket, int level, int option, int value, const char* name) {
  if (setsockopt(socket.get(), level, option, &value, sizeof value) == 0) return absl::OkStatus();
  return LastError(absl::StrCat("cannot set ", name, " to ", value));
}

IoResult Receive(const FileDescriptor& socket, absl::Span<const iovec> parts, const SocketAddress& peer) {
  msghdr message = Message(parts);
  ssize_t received;
  do {
    // The kernel has less to look at in the simpler call.
    received = parts.size() == 1
                   ? recv(socket.get(), parts.front().iov_base, parts.front().iov_len, MSG_DONTWAIT)
                   : recvmsg(socket.get(), &message, MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received > 0) {
    const size_t bytes = static_cast<size_t>(received);
    return IoResult::Done(bytes, /*more=*/bytes == TotalSize(parts));
  }
  if (received == 0) {
    // Behind the end of the peer's bytes the kernel does not say by itself that the connection was reset
    // since.
    const int error = TakeError(socket);
    if (error == 0) return IoResult::End();
    return IoResult::Failed(Unavailable(error, "cannot read from", peer));
  }
  if (WouldBlock(errno)) return IoResult::WouldBlock();
  return IoResult::Failed(Unavailable(errno, "cannot read from", peer));
}

IoResult Send(const FileDescriptor& socket, absl::Span<const iovec> parts, const SocketAddress& peer) {
  const msghdr message = Message(parts);
  ssize_t sent;
  do {
    sent = parts.size() == 1 ? send(socket.get(), parts.front().iov_base, parts.front().iov_len,
                                    MSG_DONTWAIT | MSG_NOSIGNAL)
                             : sendmsg(socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) {
    const size_t bytes = static_cast<size_t>(sent);
    return IoResult::Done(bytes, /*more=*/bytes == TotalSize(parts));
  }
  if (WouldBlock(errno)) return IoResult::WouldBlock();
  return IoResult::Failed(Unavailable(errno, "cannot write to", peer));
}

void ShutdownWriting(const FileDescriptor& socket) { shutdown(socket.get(), SHUT_WR); }

void ShutdownBoth(const FileDescriptor& socket) { shutdown(socket.get(), SHUT_RDWR); }

}  // namespace ferry::transport
