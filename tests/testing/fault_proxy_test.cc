// What a FaultProxy does to the bytes of connections.
#include "ferry/tests/testing/fault_proxy.h"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/io_result.h"
#include "gtest/gtest.h"
#include "tests/testing/fault_proxy_fixture.h"

namespace ferry::test {
namespace {

using transport::IoResult;

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
