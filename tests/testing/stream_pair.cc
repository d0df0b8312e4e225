#include "tests/testing/stream_pair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/transport/memory_stream.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/socket_stream.h"

namespace ferry::test {
namespace {

using transport::AcceptResult;
using transport::ByteStream;
using transport::FileDescriptor;
using transport::SocketAddress;
using transport::SocketStream;

void DieUnless(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << std::endl;
  std::abort();
}

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  DieUnless(value.status());
  return *std::move(value);
}

std::unique_ptr<ByteStream> NewStream(FileDescriptor socket, const SocketAddress& peer) {
  return std::make_unique<SocketStream>(std::move(socket), peer);
}

SocketAddress Loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

StreamPair NewTcpPair() {
  const FileDescriptor listening = ValueOrDie(OpenSocket(Loopback()));
  DieUnless(Bind(listening, Loopback()));
  DieUnless(Listen(listening, 1, Loopback()));
  const SocketAddress server = ValueOrDie(LocalAddress(listening));
  FileDescriptor client = ValueOrDie(OpenSocket(server));
  ValueOrDie(StartConnect(client, server));
  AcceptResult accepted;
  while (accepted.state != AcceptResult::State::kAccepted) {
    accepted = Accept(listening, server);
    DieUnless(accepted.status);
  }
  // Accepted means connected on the other end, too.
  return {NewStream(std::move(client), server), NewStream(std::move(accepted.socket), accepted.peer)};
}

StreamPair NewUnixPair() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) != 0) {
    DieUnless(transport::LastError("cannot make a socket pair"));
  }
  const sockaddr unnamed = {.sa_family = AF_UNIX, .sa_data = {}};
  const SocketAddress peer(&unnamed, sizeof unnamed.sa_family);
  return {NewStream(FileDescriptor(sockets[0]), peer), NewStream(FileDescriptor(sockets[1]), peer)};
}

}  // namespace

StreamPair NewStreamPair(StreamKind kind) {
  if (kind == StreamKind::kTcp) return NewTcpPair();
  if (kind == StreamKind::kUnix) return NewUnixPair();
  transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
  return {std::move(pair.first), std::move(pair.second)};
}

}  // namespace ferry::test
