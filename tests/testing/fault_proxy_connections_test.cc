// How a FaultProxy ends connections, and takes none.
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "gtest/gtest.h"
#include "tests/testing/fault_proxy_fixture.h"

namespace ferry::test {
namespace {

using transport::FileDescriptor;
using transport::IoResult;

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

}  // namespace
}  // namespace ferry::test
