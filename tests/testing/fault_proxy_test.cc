#include "ferry/tests/testing/fault_proxy.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"
#include "gtest/gtest.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test {
namespace {

using transport::AcceptResult;
using transport::ConnectState;
using transport::FileDescriptor;
using transport::IoResult;
using transport::ManualClock;
using transport::SocketAddress;

SocketAddress AddressOf(const std::string& text) {
  const absl::StatusOr<transport::Address> parsed = transport::Address::Parse(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return Resolve(*parsed)->front();
}

// One end of a connection, on the test's thread. Waits as long as it takes: a test that waits in vain ends by
// Bazel's timeout.
class Peer {
 public:
  explicit Peer(FileDescriptor socket) : socket_(std::move(socket)) {}

  // What one try to read comes to; bytes are appended to `received`.
  IoResult TryRead() {
    char bytes[4096];
    const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    IoResult result = Receive(socket_, {&part, 1}, {});
    received.append(bytes, result.bytes);
    return result;
  }
  // Reads until `size` bytes have come in all, or the connection ends; what has come.
  const std::string& Await(size_t size) {
    while (received.size() < size) {
      const IoResult result = TryRead();
      if (result.state == IoResult::State::kEnd || result.state == IoResult::State::kFailed) break;
      if (result.state == IoResult::State::kWouldBlock) std::this_thread::yield();
    }
    return received;
  }
  // How the connection ends: kEnd or kFailed.
  IoResult::State AwaitEnd() {
    for (;;) {
      const IoResult::State state = TryRead().state;
      if (state == IoResult::State::kEnd || state == IoResult::State::kFailed) return state;
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
  FileDescriptor socket_;
};

class FaultProxyTest : public testing::Test {
 protected:
  void Begin(FaultProxy::Options options = {}, const std::string& server = "127.0.0.1:0") {
    const SocketAddress at = AddressOf(server);
    absl::StatusOr<FileDescriptor> socket = transport::OpenSocket(at);
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
  absl::StatusOr<FileDescriptor> StartClient() {
    const SocketAddress address = AddressOf(proxy_->address());
    absl::StatusOr<FileDescriptor> socket = transport::OpenSocket(address);
    if (!socket.ok()) return socket;
    absl::StatusOr<ConnectState> state = StartConnect(*socket, address);
    if (!state.ok()) return state.status();
    if (*state == ConnectState::kQueueFull) return absl::UnavailableError("the queue is full");
    return socket;
  }
  static bool Connected(const FileDescriptor& socket) {
    sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  }
  Peer Client() {
    absl::StatusOr<FileDescriptor> socket = StartClient();
    EXPECT_TRUE(socket.ok()) << socket.status();
    while (!Connected(*socket)) std::this_thread::yield();
    return Peer(*std::move(socket));
  }
  // The server's end of the next connection.
  Peer Accepted() {
    for (;;) {
      AcceptResult accepted = Accept(listening_, {});
      if (accepted.state == AcceptResult::State::kAccepted) return Peer(std::move(accepted.socket));
      std::this_thread::yield();
    }
  }
  bool NobodyConnects() { return Accept(listening_, {}).state == AcceptResult::State::kNone; }

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
  ManualClock clock_;
  FileDescriptor listening_;
  std::unique_ptr<FaultProxy> proxy_;
};

TEST_F(FaultProxyTest, PassesBytesAndEndsBothWaysOverEveryKindOfAddress) {
  const std::string unix = absl::StrCat("unix:", directory_.path());
  const std::pair<std::string, std::string> kAddresses[] = {
      {"127.0.0.1:0", "127.0.0.1:0"},
      {absl::StrCat(unix, "/proxy"), absl::StrCat(unix, "/server")},
      {"127.0.0.1:0", absl::StrCat("unix-abstract:", directory_.path())},
  };
  for (const auto& [at, server] : kAddresses) {
    SCOPED_TRACE(at);
    Begin({.listen = at}, server);
    Peer client = Client();
    Peer accepted = Accepted();
    client.Write("question");
    EXPECT_EQ(accepted.Await(8), "question");
    client.FinishWriting();
    EXPECT_EQ(accepted.AwaitEnd(), IoResult::State::kEnd);
    accepted.Write("answer");
    EXPECT_EQ(client.Await(6), "answer");
    accepted.FinishWriting();
    EXPECT_EQ(client.AwaitEnd(), IoResult::State::kEnd);
    AwaitCounters([](const FaultProxy::Counters& c) { return c.open_connections == 0; });
    const FaultProxy::Counters counters = proxy_->counters();
    EXPECT_EQ(counters.connections, 1u);
    EXPECT_EQ(counters.bytes_from_client, 8u);
    EXPECT_EQ(counters.bytes_to_server, 8u);
    EXPECT_EQ(counters.bytes_from_server, 6u);
    EXPECT_EQ(counters.bytes_to_client, 6u);
    EXPECT_EQ(counters.bytes_held, 0u);
  }
}

TEST_F(FaultProxyTest, DelaysEachWay) {
  Begin();
  SetFaults({.delay = absl::Milliseconds(100)});
  Peer client = Client();
  Peer server = Accepted();
  client.Write("a");
  AwaitRead(1);
  clock_.Advance(absl::Milliseconds(60));
  client.Write("b");
  AwaitRead(2);
  clock_.Advance(absl::Milliseconds(39));
  proxy_->Catchup();
  EXPECT_EQ(proxy_->counters().bytes_to_server, 0u);
  clock_.Advance(absl::Milliseconds(1));
  proxy_->Catchup();
  EXPECT_EQ(server.Await(1), "a");
  EXPECT_EQ(proxy_->counters().bytes_to_server, 1u);
  // What is under way keeps its delay, and nothing overtakes it.
  SetFaults({});
  client.Write("c");
  AwaitRead(3);
  proxy_->Catchup();
  EXPECT_EQ(proxy_->counters().bytes_to_server, 1u);
  clock_.Advance(absl::Milliseconds(60));
  proxy_->Catchup();
  EXPECT_EQ(server.Await(3), "abc");
}

TEST_F(FaultProxyTest, LimitsTheBandwidth) {
  Begin();
  SetFaults({.bytes_per_second = 1000});
  Peer client = Client();
  Peer server = Accepted();
  client.Write(std::string(100, 'x'));
  AwaitRead(100);
  // Pieces of a hundredth of what goes in a second.
  for (size_t sent = 10; sent <= 100; sent += 10) {
    proxy_->Catchup();
    EXPECT_EQ(proxy_->counters().bytes_to_server, sent);
    EXPECT_EQ(server.Await(sent).size(), sent);
    clock_.Advance(absl::Milliseconds(10));
  }
}

TEST_F(FaultProxyTest, CutsWhatItPassesIntoPieces) {
  Begin();
  SetFaults({.stall = true});
  Peer client = Client();
  client.Write("abcdef");
  SetFaults({.max_piece = 1});
  Peer server = Accepted();
  EXPECT_EQ(server.Await(6), "abcdef");
  client.FinishWriting();
  EXPECT_EQ(server.AwaitEnd(), IoResult::State::kEnd);
}

TEST_F(FaultProxyTest, AStallLosesNothing) {
  Begin();
  Peer client = Client();
  Peer server = Accepted();
  SetFaults({.stall = true});
  client.Write("late");
  Peer another = Client();
  another.Write("later");
  proxy_->Catchup();
  EXPECT_EQ(proxy_->counters().bytes_from_client, 0u);
  EXPECT_EQ(server.TryRead().state, IoResult::State::kWouldBlock);
  EXPECT_TRUE(NobodyConnects());
  SetFaults({});
  EXPECT_EQ(server.Await(4), "late");
  EXPECT_EQ(Accepted().Await(5), "later");
}

TEST_F(FaultProxyTest, BytesVanishInABlackHoleAndConnectionsStay) {
  Begin();
  Peer client = Client();
  Peer server = Accepted();
  Peer quiet = Client();
  Peer quiet_server = Accepted();
  SetFaults({.black_hole = true});
  client.Write("lost");
  AwaitCounters([](const FaultProxy::Counters& c) { return c.bytes_swallowed == 4; });
  server.FinishWriting();
  Peer late = Client();
  late.Write("lost too");
  AwaitCounters([](const FaultProxy::Counters& c) { return c.bytes_swallowed == 12; });
  EXPECT_EQ(server.TryRead().state, IoResult::State::kWouldBlock);
  EXPECT_EQ(client.TryRead().state, IoResult::State::kWouldBlock);
  EXPECT_EQ(late.TryRead().state, IoResult::State::kWouldBlock);
  EXPECT_TRUE(NobodyConnects());
  EXPECT_EQ(proxy_->counters().open_connections, 3u);
  // Afterwards those that lost nothing, and new ones, work again.
  SetFaults({});
  quiet.Write("here");
  EXPECT_EQ(quiet_server.Await(4), "here");
  client.Write("lost as well");
  AwaitCounters([](const FaultProxy::Counters& c) { return c.bytes_swallowed == 24; });
  EXPECT_EQ(server.TryRead().state, IoResult::State::kWouldBlock);
  Client().Write("new");
  EXPECT_EQ(Accepted().Await(3), "new");
}

TEST_F(FaultProxyTest, WhatIsUnderWayVanishesInABlackHole) {
  Begin();
  SetFaults({.delay = absl::Seconds(1)});
  Peer client = Client();
  Peer server = Accepted();
  client.Write("under way");
  AwaitRead(9);
  SetFaults({.black_hole = true});
  AwaitCounters([](const FaultProxy::Counters& c) { return c.bytes_swallowed == 9; });
  SetFaults({});
  clock_.Advance(absl::Seconds(2));
  proxy_->Catchup();
  EXPECT_EQ(proxy_->counters().bytes_to_server, 0u);
  EXPECT_EQ(proxy_->counters().bytes_held, 0u);
}

TEST_F(FaultProxyTest, ResetsAllConnections) {
  Begin();
  Peer client = Client();
  Peer server = Accepted();
  proxy_->ResetConnections();
  EXPECT_EQ(client.AwaitEnd(), IoResult::State::kFailed);
  EXPECT_EQ(server.AwaitEnd(), IoResult::State::kFailed);
  EXPECT_EQ(proxy_->counters().resets, 1u);
  EXPECT_EQ(proxy_->counters().open_connections, 0u);
}

TEST_F(FaultProxyTest, ResetsTheNextConnections) {
  Begin();
  proxy_->ResetNext(2);
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<FileDescriptor> client = StartClient();
    ASSERT_TRUE(client.ok()) << client.status();
    EXPECT_EQ(Peer(*std::move(client)).AwaitEnd(), IoResult::State::kFailed);
  }
  Client().Write("third");
  EXPECT_EQ(Accepted().Await(5), "third");
  EXPECT_EQ(proxy_->counters().resets, 2u);
}

TEST_F(FaultProxyTest, APeersResetIsPassedOn) {
  Begin();
  Peer client = Client();
  {
    Peer server = Accepted();
    client.Write("unread");
    AwaitCounters([](const FaultProxy::Counters& c) { return c.bytes_to_server == 6; });
  }
  EXPECT_EQ(client.AwaitEnd(), IoResult::State::kFailed);
}

TEST_F(FaultProxyTest, CutsAfterSoManyBytes) {
  struct Case {
    std::string name;
    FaultProxy::Faults faults;
    std::string to_server;
    std::string to_client;
    IoResult::State end;
  };
  const Case kCases[] = {
      {"to the server", {.cut_to_server_after = 3}, "abc", "", IoResult::State::kEnd},
      {"nothing to the server", {.cut_to_server_after = 0}, "", "", IoResult::State::kEnd},
      {"to the client", {.cut_to_client_after = 2}, "abcdef", "12", IoResult::State::kEnd},
      {"with a reset",
       {.cut_to_client_after = 2, .cut_with_reset = true},
       "abcdef",
       "",
       IoResult::State::kFailed},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    Begin();
    Peer client = Client();
    Peer server = Accepted();
    SetFaults(c.faults);
    client.Write("abcdef");
    EXPECT_EQ(server.Await(c.to_server.size()), c.to_server);
    server.Write("123456");
    EXPECT_EQ(client.AwaitEnd(), c.end);
    EXPECT_EQ(server.AwaitEnd(), c.end);
    // A reset overtakes what was written before it.
    if (c.end == IoResult::State::kEnd) {
      EXPECT_EQ(client.received, c.to_client);
      EXPECT_EQ(server.received, c.to_server);
    }
    EXPECT_EQ(proxy_->counters().cuts, 1u);
  }
}

TEST_F(FaultProxyTest, RefusesConnectionsAndTakesThemAgain) {
  for (const std::string& at : {std::string("127.0.0.1:0"), absl::StrCat("unix:", directory_.path(), "/p")}) {
    SCOPED_TRACE(at);
    Begin({.listen = at});
    const std::string address = proxy_->address();
    SetFaults({.new_connections = FaultProxy::NewConnections::kRefuse});
    absl::StatusOr<FileDescriptor> client = StartClient();
    while (client.ok() && transport::FinishConnect(*client, {}).ok()) {
      ASSERT_FALSE(Connected(*client));
      std::this_thread::yield();
    }
    EXPECT_TRUE(NobodyConnects());
    SetFaults({});
    EXPECT_EQ(proxy_->address(), address);
    Client().Write("again");
    EXPECT_EQ(Accepted().Await(5), "again");
  }
}

TEST_F(FaultProxyTest, LetsConnectionsHang) {
  Begin();
  Peer before = Client();
  Peer before_server = Accepted();
  SetFaults({.new_connections = FaultProxy::NewConnections::kHang});
  absl::StatusOr<FileDescriptor> client = StartClient();
  ASSERT_TRUE(client.ok()) << client.status();
  // Those before go on meanwhile.
  before.Write("here");
  EXPECT_EQ(before_server.Await(4), "here");
  EXPECT_FALSE(Connected(*client));
  EXPECT_TRUE(transport::FinishConnect(*client, {}).ok());
  EXPECT_EQ(proxy_->counters().connections, 1u);
  SetFaults({});
  // The client's kernel asks again after a second.
  while (!Connected(*client)) std::this_thread::yield();
  Peer(*std::move(client)).Write("at last");
  EXPECT_EQ(Accepted().Await(7), "at last");
  EXPECT_EQ(proxy_->counters().connections, 2u);
}

TEST_F(FaultProxyTest, AHangingUnixSocketAnswersThatItsQueueIsFull) {
  Begin({.listen = absl::StrCat("unix:", directory_.path(), "/proxy")});
  SetFaults({.new_connections = FaultProxy::NewConnections::kHang});
  EXPECT_TRUE(absl::IsUnavailable(StartClient().status()));
  SetFaults({});
  Client().Write("in");
  EXPECT_EQ(Accepted().Await(2), "in");
  EXPECT_EQ(proxy_->counters().connections, 1u);
}

TEST_F(FaultProxyTest, AServerThatIsNotThereResetsTheClient) {
  Begin();
  listening_.Close();
  absl::StatusOr<FileDescriptor> client = StartClient();
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ(Peer(*std::move(client)).AwaitEnd(), IoResult::State::kFailed);
  AwaitCounters([](const FaultProxy::Counters& c) { return c.failed_connections == 1; });
}

TEST_F(FaultProxyTest, ASlowReaderHoldsUpItsWriter) {
  constexpr size_t kHeld = 64 * 1024;
  Begin({.buffer_bytes = kHeld});
  SetFaults({.delay = absl::Seconds(1)});
  Peer client = Client();
  Peer server = Accepted();
  const std::string block(64 * 1024, 'x');
  size_t written = 0;
  // The kernel's buffers are full too once nothing goes for many rounds.
  for (int idle = 0; idle < 1000;) {
    const size_t taken = client.Write(block);
    written += taken;
    idle = taken > 0 ? 0 : idle + 1;
    ASSERT_LE(proxy_->counters().bytes_held, kHeld);
  }
  EXPECT_EQ(proxy_->counters().bytes_to_server, 0u);
  EXPECT_GE(proxy_->counters().bytes_from_client, kHeld);
  SetFaults({});
  clock_.Advance(absl::Seconds(1));
  proxy_->Catchup();
  EXPECT_EQ(server.Await(written).size(), written);
}

TEST_F(FaultProxyTest, SaysWhichAddressIsWrong) {
  EXPECT_TRUE(absl::StrContains(FaultProxy::Create("nonsense", {}).status().message(), "nonsense"));
  const absl::Status status = FaultProxy::Create("127.0.0.1:1", {.listen = "192.0.2.1:0"}).status();
  EXPECT_TRUE(absl::StrContains(status.message(), "192.0.2.1")) << status;
}

TEST_F(FaultProxyTest, MayBeDestroyedWithConnectionsOfEveryState) {
  Begin();
  SetFaults({.delay = absl::Seconds(1)});
  std::vector<Peer> clients;
  clients.push_back(Client());
  clients.front().Write("under way");
  AwaitRead(9);
  SetFaults({.black_hole = true});
  clients.push_back(Client());
  SetFaults({.cut_to_server_after = 0});
  clients.push_back(Client());
  SetFaults({.new_connections = FaultProxy::NewConnections::kHang});
  proxy_.reset();
  for (Peer& client : clients) client.AwaitEnd();
}

}  // namespace
}  // namespace ferry::test
