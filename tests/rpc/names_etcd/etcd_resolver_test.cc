// Resolving by a real etcd, that comes and goes.
#include "ferry/rpc/names/etcd_resolver.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/rpc/names_etcd/resolving.h"
#include "tests/testing/etcd_server.h"
#include "tests/testing/run_loop.h"

namespace ferry::test {
namespace {

const char kService[] = "/ferry/services/greeter/";

std::string KeyOf(const std::string& address) { return kService + address; }

class EtcdResolverTest : public testing::Test {
 protected:
  EtcdOptions Options() { return QuickEtcdOptions({etcd_.endpoint()}); }

  EtcdServer etcd_;
};

TEST_F(EtcdResolverTest, FollowsServersAsTheyComeAndGo) {
  etcd_.Put(KeyOf("127.0.0.1:7000"), "");
  etcd_.Put("/ferry/services/greeter2/127.0.0.1:9", "");
  etcd_.Put("/ferry/services/greete/127.0.0.1:9", "");
  Resolving resolving(Options());
  resolving.AwaitNames({"127.0.0.1:7000"});
  etcd_.Put(KeyOf("[::1]:7001"), R"({"weight": 3, "locality": "north/a", "priority": 1, "more": [1]})");
  etcd_.Put(KeyOf("unix:/run/greeter"), "{}");
  resolving.AwaitNames({"127.0.0.1:7000", "[::1]:7001", "unix:/run/greeter"});
  const std::vector<ResolvedServer> servers = resolving.servers();
  EXPECT_EQ(servers[0].weight, 1u);
  EXPECT_EQ(servers[0].locality, "");
  EXPECT_EQ(servers[0].addresses.front().ToString(), "127.0.0.1:7000");
  EXPECT_EQ(servers[1].weight, 3u);
  EXPECT_EQ(servers[1].locality, "north/a");
  EXPECT_EQ(servers[1].priority, 1u);
  EXPECT_EQ(servers[1].addresses.front().ToString(), "[::1]:7001");
  EXPECT_EQ(servers[2].addresses.front().ToString(), "unix:/run/greeter");
  etcd_.Delete(KeyOf("127.0.0.1:7000"));
  etcd_.Delete(KeyOf("unix:/run/greeter"));
  etcd_.Put(KeyOf("[::1]:7001"), R"({"weight": 5})");
  resolving.AwaitNames({"[::1]:7001"});
  EXPECT_TRUE(resolving.errors().empty()) << resolving.errors().front();
}

TEST_F(EtcdResolverTest, AServiceWithoutServersIsAnErrorAndTheLastListCounts) {
  Resolving resolving(Options());
  const absl::Status error = resolving.AwaitError("service greeter");
  EXPECT_EQ(error, absl::UnavailableError(absl::StrCat(
                       "etcd ", etcd_.endpoint(),
                       ", service greeter: no server is registered, no key begins with '", kService, "'")));
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  resolving.AwaitNames({"127.0.0.1:1"});
  etcd_.Delete(KeyOf("127.0.0.1:1"));
  EXPECT_EQ(resolving.AwaitError("service greeter"), error);
  resolving.AwaitNames({"127.0.0.1:1"});
  // It is gone once there are others.
  etcd_.Put(KeyOf("127.0.0.1:2"), "");
  resolving.AwaitNames({"127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, AnEntryThatBecomesMalformedCountsAsItWasBefore) {
  etcd_.Put(KeyOf("127.0.0.1:1"), R"({"weight": 7})");
  Resolving resolving(Options());
  resolving.AwaitNames({"127.0.0.1:1"});
  etcd_.Put(KeyOf("127.0.0.1:1"), "nonsense");
  EXPECT_TRUE(absl::IsInvalidArgument(resolving.AwaitError("with value 'nonsense'")));
  EXPECT_EQ(resolving.servers().front().weight, 7u);
  // Read again as a whole.
  etcd_.Stop();
  EXPECT_TRUE(absl::IsUnavailable(resolving.AwaitError("service greeter")));
  etcd_.Start();
  EXPECT_TRUE(absl::IsInvalidArgument(resolving.AwaitError("with value 'nonsense'")));
  ASSERT_EQ(resolving.servers().size(), 1u);
  EXPECT_EQ(resolving.servers().front().weight, 7u);
  etcd_.Put(KeyOf("127.0.0.1:2"), "");
  resolving.AwaitNames({"127.0.0.1:1", "127.0.0.1:2"});
  etcd_.Delete(KeyOf("127.0.0.1:1"));
  resolving.AwaitNames({"127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, AMalformedEntryIsNamedAndTheOthersAreKept) {
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  etcd_.Put(KeyOf("host:7000"), "{}");
  Resolving resolving(Options());
  EXPECT_TRUE(absl::IsInvalidArgument(resolving.AwaitError(
      "etcd key '/ferry/services/greeter/host:7000' with value '{}': 'host:7000': host is not an IP")));
  resolving.AwaitNames({"127.0.0.1:1"});
  const struct {
    std::string key;
    std::string value;
    std::string problem;
  } kCases[] = {
      {"127.0.0.1:2", "nonsense\x01", R"(with value 'nonsense\x01': the value is not like)"},
      {"127.0.0.1:2", R"({"weight": -1})", "the value is not like"},
      {"127.0.0.1:2", R"({"weight": 0})", "the weight is 0, the least is 1"},
      {"127.0.0.1:0", "{}", "has port 0"},
      {"", "{}", "etcd key '/ferry/services/greeter/' with value"},
      {"127.0.0.1:2", std::string(200, 'x'), std::string(100, 'x') + "'..."},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.value);
    etcd_.Put(KeyOf(c.key), c.value);
    const absl::Status error = resolving.AwaitError(c.problem);
    EXPECT_TRUE(absl::IsInvalidArgument(error)) << error;
    resolving.AwaitNames({"127.0.0.1:1"});
  }
  etcd_.Put(KeyOf("127.0.0.1:2"), "{}");
  resolving.AwaitNames({"127.0.0.1:1", "127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, KeepsTheListWhileEtcdIsAwayAndGoesOnAfterwards) {
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  Resolving resolving(Options());
  resolving.AwaitNames({"127.0.0.1:1"});
  etcd_.Stop();
  const absl::Status error = resolving.AwaitError("service greeter");
  EXPECT_TRUE(absl::IsUnavailable(error));
  EXPECT_TRUE(absl::StrContains(error.message(), absl::StrCat("etcd ", etcd_.endpoint()))) << error;
  EXPECT_EQ(resolving.servers().size(), 1u);
  etcd_.Start();
  etcd_.Put(KeyOf("127.0.0.1:2"), "");
  resolving.AwaitNames({"127.0.0.1:1", "127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, NoticesAnEtcdThatDoesNotAnswer) {
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  EtcdOptions options = Options();
  options.request_timeout = absl::Milliseconds(300);
  Resolving resolving(options);
  resolving.AwaitNames({"127.0.0.1:1"});
  etcd_.Pause();
  const absl::Status error = resolving.AwaitError("no answer in time");
  EXPECT_TRUE(absl::IsDeadlineExceeded(error)) << error;
  EXPECT_EQ(resolving.servers().size(), 1u);
  etcd_.Resume();
  etcd_.Put(KeyOf("127.0.0.1:2"), "");
  resolving.AwaitNames({"127.0.0.1:1", "127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, BeginsAgainAfterACompaction) {
  auto proxy = FaultProxy::Create(etcd_.endpoint(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  EtcdOptions options = QuickEtcdOptions({(*proxy)->address()});
  Resolving resolving(options);
  resolving.AwaitNames({"127.0.0.1:1"});
  // What happens meanwhile is not told, and not kept.
  ASSERT_TRUE((*proxy)->SetFaults({.new_connections = FaultProxy::NewConnections::kRefuse}).ok());
  (*proxy)->ResetConnections();
  EXPECT_TRUE(absl::IsUnavailable(resolving.AwaitError("service greeter")));
  etcd_.Delete(KeyOf("127.0.0.1:1"));
  etcd_.Put(KeyOf("127.0.0.1:2"), "");
  etcd_.Compact();
  ASSERT_TRUE((*proxy)->SetFaults({}).ok());
  resolving.AwaitNames({"127.0.0.1:2"});
}

TEST_F(EtcdResolverTest, TriesTheOtherMembers) {
  EtcdServer gone;
  gone.Stop();
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  for (int i = 0; i < 5; ++i) {
    Resolving resolving(QuickEtcdOptions({gone.endpoint(), etcd_.endpoint()}));
    resolving.AwaitNames({"127.0.0.1:1"});
    // The first failure is no news.
    EXPECT_TRUE(resolving.errors().empty()) << resolving.errors().front();
  }
}

TEST_F(EtcdResolverTest, GoesToAnotherMemberWhenOneIsABlackHole) {
  auto proxy = FaultProxy::Create(etcd_.endpoint(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EtcdOptions options = QuickEtcdOptions({(*proxy)->address(), etcd_.endpoint()});
  options.request_timeout = absl::Milliseconds(300);
  Resolving resolving(options);
  EXPECT_TRUE(absl::IsUnavailable(resolving.AwaitError("no server is registered")));
  ASSERT_TRUE((*proxy)->SetFaults({.black_hole = true}).ok());
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  resolving.AwaitNames({"127.0.0.1:1"});
}

TEST_F(EtcdResolverTest, DoesNotTryWithoutPauseWhileEtcdIsAway) {
  auto proxy = FaultProxy::Create(etcd_.endpoint(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EtcdOptions options = QuickEtcdOptions({(*proxy)->address()});
  options.backoff_min = options.backoff_max = absl::Seconds(1);
  constexpr int kTries = 8;
  (*proxy)->ResetNext(1'000'000);
  const transport::Clock& clock = transport::Clock::Real();
  const transport::Instant begin = clock.Now();
  Resolving resolving(options);
  while ((*proxy)->counters().connections < kTries) std::this_thread::yield();
  // The first two at once, and then six waits of half a second on average: less than a fifth of that is as
  // good as impossible.
  EXPECT_GT(clock.Now() - begin, absl::Milliseconds(600));
  // One told for each failure but the first, and the last may not have been told yet.
  EXPECT_LE(resolving.told(), (*proxy)->counters().connections);
}

TEST_F(EtcdResolverTest, MayBeDestroyedByItsWatcherAtAnyTime) {
  etcd_.Put(KeyOf("127.0.0.1:1"), "");
  etcd_.Put(KeyOf("malformed"), "");
  // The list that was read and its error, and the same of the watch; the last as etcd goes.
  for (size_t last = 1; last <= 5; ++last) {
    SCOPED_TRACE(last);
    Resolving resolving(Options(), [last](Resolving& told) {
      if (told.told() == last) told.resolver.reset();
    });
    if (last >= 3) {
      resolving.AwaitTold(2);
      etcd_.Put(KeyOf("malformed"), "still");
    }
    if (last == 5) {
      resolving.AwaitTold(4);
      etcd_.Stop();
    }
    resolving.AwaitTold(last);
    resolving.RunOnLoop([&] { EXPECT_EQ(resolving.resolver, nullptr); });
    EXPECT_EQ(resolving.told(), last);
  }
}

TEST(EtcdOptionsTest, SaysWhichOptionCannotBe) {
  const struct {
    std::string service;
    EtcdOptions options;
    std::string problem;
  } kCases[] = {
      {"", {}, "the service's name is empty"},
      {"a/b", {}, "'a/b' has a '/'"},
      {std::string(1025, 'x'), {}, "is 1025 bytes, limit is 1024"},
      {"a", {.endpoints = {}}, "endpoints is empty"},
      {"a", {.endpoints = {"etcd:2379"}}, "'etcd:2379': etcd is not an IP address"},
      {"a", {.prefix = "ferry"}, "prefix is 'ferry'"},
      {"a", {.ttl = absl::Milliseconds(10)}, "ttl is 10ms, the least is 1s"},
      {"a", {.request_timeout = absl::ZeroDuration()}, "request_timeout is 0, the least is 1ms"},
      {"a", {.backoff_min = absl::Seconds(20)}, "backoff_max is 10s, the least is 20s"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.problem);
    const std::unique_ptr<transport::EventLoop> loop = NewLoop();
    absl::Status status;
    RunIn(*loop, [&] { status = NewEtcdResolver(*loop, c.service, c.options).status(); });
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_TRUE(absl::StrContains(status.message(), c.problem)) << status;
  }
}

}  // namespace
}  // namespace ferry::test
