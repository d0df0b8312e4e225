#include "ferry/transport/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

SocketAddress Loopback() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// A name that no other test uses.
SocketAddress UnusedName() {
  static int count = 0;
  return SocketAddress::UnixAbstract(absl::StrCat("ferry-socket-test-", getpid(), "-", ++count));
}

// A socket bound to `address`, and listening unless `backlog` is negative.
FileDescriptor Bound(const SocketAddress& address, int backlog) {
  FileDescriptor socket = *OpenSocket(address);
  EXPECT_TRUE(Bind(socket, address).ok());
  if (backlog >= 0) {
    EXPECT_TRUE(Listen(socket, backlog, address).ok());
  }
  return socket;
}

// Connects, however long the kernel takes.
absl::Status Connect(const FileDescriptor& socket, const SocketAddress& address) {
  const absl::StatusOr<ConnectState> started = StartConnect(socket, address);
  if (!started.ok()) return started.status();
  if (*started == ConnectState::kConnected) return absl::OkStatus();
  Epoll epoll = *Epoll::Create();
  EXPECT_TRUE(epoll.Add(socket, EPOLLOUT, nullptr).ok());
  epoll_event event;
  while (epoll.Wait({&event, 1}, Epoll::kForever) == 0) {
  }
  return FinishConnect(socket, address);
}

TEST(SocketTest, SaysWhyAnAddressCannotBeBound) {
  const FileDescriptor first = Bound(Loopback(), -1);
  const SocketAddress taken = *LocalAddress(first);
  const FileDescriptor second = *OpenSocket(taken);
  const absl::Status status = Bind(second, taken);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message(),
            absl::StrCat("cannot bind 127.0.0.1:", taken.port(), ": Address already in use"));
}

TEST(SocketTest, FindsAFreePort) {
  const FileDescriptor socket = Bound(Loopback(), -1);
  EXPECT_NE(LocalAddress(socket)->port(), 0);
}

TEST(SocketTest, SaysThatNobodyListens) {
  const FileDescriptor silent = Bound(Loopback(), -1);
  for (const SocketAddress& address : {*LocalAddress(silent), UnusedName()}) {
    SCOPED_TRACE(address.ToString());
    const FileDescriptor client = *OpenSocket(address);
    const absl::Status status = Connect(client, address);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(status.message(),
              absl::StrCat("cannot connect to ", address.ToString(), ": Connection refused (ECONNREFUSED)"));
  }
}

TEST(SocketTest, AcceptsThoseWhoConnect) {
  const FileDescriptor listening = Bound(Loopback(), 1);
  const SocketAddress server = *LocalAddress(listening);
  EXPECT_EQ(Accept(listening, server).state, AcceptResult::State::kNone);
  const FileDescriptor client = *OpenSocket(server);
  ASSERT_TRUE(Connect(client, server).ok());
  AcceptResult accepted;
  while (accepted.state == AcceptResult::State::kNone) accepted = Accept(listening, server);
  EXPECT_EQ(accepted.state, AcceptResult::State::kAccepted);
  EXPECT_EQ(accepted.peer.ToString(), LocalAddress(client)->ToString());
}

TEST(SocketTest, SaysThatThereAreNoDescriptorsToAcceptWith) {
  const SocketAddress server = UnusedName();
  const FileDescriptor listening = Bound(server, 1);
  const FileDescriptor client = *OpenSocket(server);
  ASSERT_TRUE(Connect(client, server).ok());
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const AcceptResult refused = Accept(listening, server);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(refused.state, AcceptResult::State::kOutOfResources);
  EXPECT_EQ(refused.status.message(),
            absl::StrCat("cannot accept on ", server.ToString(), ": Too many open files"));
  EXPECT_EQ(Accept(listening, server).state, AcceptResult::State::kAccepted);
}

TEST(SocketTest, SaysThatAUnixListenersQueueIsFull) {
  const SocketAddress server = UnusedName();
  const FileDescriptor listening = Bound(server, 0);
  std::vector<FileDescriptor> clients;
  ConnectState state = ConnectState::kConnected;
  while (state == ConnectState::kConnected) {
    clients.push_back(*OpenSocket(server));
    const absl::StatusOr<ConnectState> started = StartConnect(clients.back(), server);
    ASSERT_TRUE(started.ok()) << started.status();
    state = *started;
  }
  EXPECT_EQ(state, ConnectState::kQueueFull);
}

TEST(SocketTest, NamesTheOptionThatCannotBeSet) {
  const FileDescriptor socket = *OpenSocket(UnusedName());
  const absl::Status status = SetOption(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  EXPECT_EQ(status.message(), "cannot set TCP_NODELAY to 1: Operation not supported");
}

TEST(SocketTest, SaysWhetherThereMayBeMore) {
  const SocketAddress server = UnusedName();
  const FileDescriptor listening = Bound(server, 1);
  const FileDescriptor client = *OpenSocket(server);
  ASSERT_TRUE(Connect(client, server).ok());
  const AcceptResult accepted = Accept(listening, server);
  std::string bytes = "abcd";
  const iovec four = {.iov_base = bytes.data(), .iov_len = 4};
  const iovec three = {.iov_base = bytes.data(), .iov_len = 3};
  EXPECT_TRUE(Send(client, {&four, 1}, server).more);
  EXPECT_TRUE(Receive(accepted.socket, {&three, 1}, accepted.peer).more);
  const IoResult last = Receive(accepted.socket, {&three, 1}, accepted.peer);
  EXPECT_EQ(last.bytes, 1u);
  EXPECT_FALSE(last.more);
}

}  // namespace
}  // namespace ferry::transport
