// What the tests of FaultProxy stand on.
#ifndef FERRY_TESTS_TESTING_FAULT_PROXY_FIXTURE_H_
#define FERRY_TESTS_TESTING_FAULT_PROXY_FIXTURE_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/address.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"
#include "gtest/gtest.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test {

inline transport::SocketAddress AddressOf(const std::string& text) {
  const absl::StatusOr<transport::Address> parsed = transport::Address::Parse(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return Resolve(*parsed)->front();
}

// A Peer is one end of a connection, on the test's thread. Waits as long as it takes: a test that waits in
// vain ends by Bazel's timeout.
//
// Thread-compatible.
class Peer {
 public:
  explicit Peer(transport::FileDescriptor socket) : socket_(std::move(socket)) {}

  // What one try to read comes to; bytes are appended to `received`.
  transport::IoResult TryRead() {
    char bytes[4096];
    const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    transport::IoResult result = Receive(socket_, {&part, 1}, {});
    received.append(bytes, result.bytes);
    return result;
  }
  // Reads until `size` bytes have come in all, or the connection ends; what has come.
  const std::string& Await(size_t size) {
    while (received.size() < size) {
      const transport::IoResult result = TryRead();
      if (result.state == transport::IoResult::State::kEnd ||
          result.state == transport::IoResult::State::kFailed)
        break;
      if (result.state == transport::IoResult::State::kWouldBlock) std::this_thread::yield();
    }
    return received;
  }
  // How the connection ends: kEnd or kFailed.
  transport::IoResult::State AwaitEnd() {
    for (;;) {
      const transport::IoResult::State state = TryRead().state;
      if (state == transport::IoResult::State::kEnd || state == transport::IoResult::State::kFailed)
        return state;
      std::this_thread::yield();
    }
  }
  // How many of `bytes` could be written without waiting.
  size_t Write(std::string bytes) {
    const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
    return Send(socket_, {&part, 1}, {}).bytes;
  }
  void FinishWriting() { ShutdownWriting(socket_); }

  std::string received;

 private:
  transport::FileDescriptor socket_;
};

// A FaultProxyTest has a server's socket, which nobody answers on but the test, and a proxy before it.
//
// Thread-compatible.
class FaultProxyTest : public testing::Test {
 protected:
  void Begin(FaultProxy::Options options = {}, const std::string& server = "127.0.0.1:0") {
    const transport::SocketAddress at = AddressOf(server);
    absl::StatusOr<transport::FileDescriptor> socket = transport::OpenSocket(at);
    ASSERT_TRUE(socket.ok()) << socket.status();
    listening_ = *std::move(socket);
    ASSERT_TRUE(Bind(listening_, at).ok());
    ASSERT_TRUE(Listen(listening_, 100, at).ok());
    options.clock = &clock_;
    absl::StatusOr<std::unique_ptr<FaultProxy>> proxy =
        FaultProxy::Create(LocalAddress(listening_)->ToString(), options);
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }

  // A client whose connection may still be under way.
  absl::StatusOr<transport::FileDescriptor> StartClient() {
    const transport::SocketAddress address = AddressOf(proxy_->address());
    absl::StatusOr<transport::FileDescriptor> socket = transport::OpenSocket(address);
    if (!socket.ok()) return socket;
    absl::StatusOr<transport::ConnectState> state = StartConnect(*socket, address);
    if (!state.ok()) return state.status();
    if (*state == transport::ConnectState::kQueueFull) return absl::UnavailableError("the queue is full");
    return socket;
  }
  static bool Connected(const transport::FileDescriptor& socket) {
    sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  }
  Peer Client() {
    absl::StatusOr<transport::FileDescriptor> socket = StartClient();
    EXPECT_TRUE(socket.ok()) << socket.status();
    while (!Connected(*socket)) std::this_thread::yield();
    return Peer(*std::move(socket));
  }
  // The server's end of the next connection.
  Peer Accepted() {
    for (;;) {
      transport::AcceptResult accepted = Accept(listening_, {});
      if (accepted.state == transport::AcceptResult::State::kAccepted)
        return Peer(std::move(accepted.socket));
      std::this_thread::yield();
    }
  }
  bool NobodyConnects() { return Accept(listening_, {}).state == transport::AcceptResult::State::kNone; }

  template <typename Condition>
  void AwaitCounters(Condition condition) {
    while (!condition(proxy_->counters())) std::this_thread::yield();
  }
  void AwaitRead(uint64_t bytes) {
    AwaitCounters([&](const FaultProxy::Counters& c) { return c.bytes_from_client >= bytes; });
  }
  void SetFaults(const FaultProxy::Faults& faults) {
    const absl::Status set = proxy_->SetFaults(faults);
    ASSERT_TRUE(set.ok()) << set;
  }

  TemporaryDirectory directory_;
  transport::ManualClock clock_;
  transport::FileDescriptor listening_;
  std::unique_ptr<FaultProxy> proxy_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_FAULT_PROXY_FIXTURE_H_
