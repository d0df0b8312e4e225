// Channels that find their servers by name, and are called while those come and go.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/callers.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/directories.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

// Has a channel, and the servers that `directory` lists for it.
class Named {
 public:
  explicit Named(Directory& directory) : directory_(directory) {}

  void Connect() { Connect(directory_.target(), directory_.options()); }
  void Connect(const std::string& target, const ChannelOptions& options) {
    absl::StatusOr<std::unique_ptr<Channel>> created = Channel::Create(target, options);
    ASSERT_TRUE(created.ok()) << created.status();
    channel_ = *std::move(created);
    stub_ = std::make_unique<ConformanceStub>(*channel_);
  }

  // A new server, which is listed.
  Host& Join() {
    hosts_.push_back(std::make_unique<Host>());
    directory_.Join(*hosts_.back());
    return *hosts_.back();
  }

  absl::Status Call() { return stub_->EchoInline(Message(), {.timeout = kLongTime}).status(); }
  // Of a method that is not idempotent: nothing makes up for a call that fails.
  absl::Status CallOnce() { return stub_->EchoExecutor(Message(), {.timeout = kLongTime}).status(); }

  // While somebody calls.
  bool GetsCalls(const Host& host) const {
    const int before = host.calls();
    return Eventually([&] { return host.calls() > before; });
  }
  // The same: that `busy` gets a hundred in which `idle` has none.
  bool GetsNone(const Host& idle, const Host& busy) const {
    return Eventually([&] {
      const int before = idle.calls();
      const int enough = busy.calls() + 100;
      return Eventually([&] { return busy.calls() >= enough; }) && idle.calls() == before;
    });
  }
  bool UsesServers(size_t count) const {
    return Eventually([&] {
      const Channel::ServerCounts counts = channel_->server_counts();
      return counts.servers == count && counts.usable == count;
    });
  }

 private:
  Directory& directory_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
};

struct Kind {
  const char* name;
  std::unique_ptr<Directory> (*make)();
};

template <typename D>
std::unique_ptr<Directory> Make() {
  return std::make_unique<D>();
}

class NamesTest : public testing::TestWithParam<Kind> {
 protected:
  const std::unique_ptr<Directory> directory_ = GetParam().make();
  Named service_{*directory_};
};

TEST_P(NamesTest, NoCallFailsWhileServersComeAndGo) {
  std::vector<Host*> listed = {&service_.Join(), &service_.Join(), &service_.Join()};
  service_.Connect();
  ASSERT_TRUE(service_.UsesServers(3));
  Callers callers(3, [this](uint64_t) { return service_.Call(); });
  struct Gone {
    Host* host;
    int calls;
  };
  std::vector<Gone> gone;
  for (int i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    Host& next = service_.Join();
    listed.push_back(&next);
    ASSERT_TRUE(service_.GetsCalls(next));
    Host& last = *listed.front();
    listed.erase(listed.begin());
    directory_->Leave(last);
    ASSERT_TRUE(service_.UsesServers(3));
    ASSERT_TRUE(service_.GetsNone(last, next));
    gone.push_back({&last, last.calls()});
    // Every other one would still take calls.
    if (i % 2 == 0) last.Drain();
  }
  for (const Host* host : listed) EXPECT_TRUE(service_.GetsCalls(*host));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
  for (const Gone& was : gone) EXPECT_EQ(was.host->calls(), was.calls);
}

TEST_P(NamesTest, KeepsTheLastServersUntilThereAreOthers) {
  Host& first = service_.Join();
  service_.Connect();
  ASSERT_TRUE(service_.UsesServers(1));
  Callers callers(2, [this](uint64_t) { return service_.Call(); });
  directory_->Leave(first);
  // Whoever asks only now finds nobody.
  Named late(*directory_);
  late.Connect();
  const absl::Status nobody = late.Call();
  EXPECT_TRUE(absl::IsUnavailable(nobody));
  EXPECT_TRUE(absl::StrContains(nobody.message(), directory_->nobody())) << nobody;
  EXPECT_TRUE(service_.GetsCalls(first));
  Host& second = service_.Join();
  ASSERT_TRUE(service_.GetsCalls(second));
  ASSERT_TRUE(service_.GetsNone(first, second));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return late.Call().ok(); }));
}

TEST_P(NamesTest, SaysThatNobodyIsListedWhenTheLastServersAreGone) {
  Host& first = service_.Join();
  service_.Connect();
  EXPECT_EQ(service_.Call(), absl::OkStatus());
  directory_->Leave(first);
  first.Stop();
  absl::Status status;
  EXPECT_TRUE(Eventually([&] {
    status = service_.Call();
    return absl::StrContains(status.message(), directory_->nobody());
  })) << status;
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "none of the 1 servers of " + directory_->target()))
      << status;
  service_.Join();
  EXPECT_TRUE(Eventually([&] { return service_.Call().ok(); }));
}

INSTANTIATE_TEST_SUITE_P(Kinds, NamesTest,
                         testing::Values(Kind{"Etcd", &Make<EtcdDirectory>}, Kind{"Dns", &Make<DnsDirectory>},
                                         Kind{"File", &Make<FileDirectory>}),
                         [](const testing::TestParamInfo<Kind>& kind) { return kind.param.name; });

TEST(EtcdNamesTest, AServerThatDrainsIsLeftByItself) {
  EtcdDirectory directory;
  Named service(directory);
  Host* last = &service.Join();
  service.Connect();
  ASSERT_TRUE(service.UsesServers(1));
  Callers callers(3, [&](uint64_t) { return service.CallOnce(); });
  for (int i = 0; i < 5; ++i) {
    Host& next = service.Join();
    ASSERT_TRUE(service.GetsCalls(next));
    last->Drain();
    ASSERT_TRUE(service.UsesServers(1));
    last = &next;
  }
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST(EtcdNamesTest, NoCallFailsWhenEtcdLosesWhatItKnew) {
  EtcdDirectory directory;
  Named service(directory);
  const std::vector<Host*> hosts = {&service.Join(), &service.Join(), &service.Join()};
  service.Connect();
  ASSERT_TRUE(service.UsesServers(3));
  Callers callers(3, [&](uint64_t) { return service.Call(); });
  const auto goes_on = [&] {
    EXPECT_TRUE(Eventually([&] { return directory.etcd().Count("/ferry/services/shop/") == 3; }));
    EXPECT_TRUE(service.UsesServers(3));
    for (const Host* host : hosts) EXPECT_TRUE(service.GetsCalls(*host));
  };
  directory.etcd().RevokeLeases();
  goes_on();
  directory.etcd().Stop();
  for (const Host* host : hosts) EXPECT_TRUE(service.GetsCalls(*host));
  directory.etcd().Forget();
  directory.etcd().Start();
  goes_on();
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST(DnsNamesTest, ADnsServerInTheTargetIsAskedInsteadOfThoseInTheOptions) {
  DnsDirectory directory;
  Named service(directory);
  service.Join();
  ChannelOptions options = directory.options();
  // Nobody listens there.
  options.names.dns.servers = {"127.0.0.1:1"};
  service.Connect("dns://" + directory.address() + "/shop.test", options);
  EXPECT_EQ(service.Call(), absl::OkStatus());
}

TEST(NamesOptionsTest, CallsSayWhichOptionCannotBe) {
  const struct {
    const char* target;
    ChannelOptions options;
    const char* problem;
  } kCases[] = {
      {"dns:///a.test:80",
       {.names = {.dns = {.attempts = 0}}},
       "DnsResolverOptions::attempts is 0, must be at least 1"},
      {"file:///a",
       {.names = {.file = {.settle = absl::ZeroDuration()}}},
       "FileResolverOptions::settle is 0, must be positive"},
      {"etcd:///a", {}, "target \"etcd:///a\": no resolver for etcd was given (ResolverOptions::etcd)"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.target);
    const absl::StatusOr<std::unique_ptr<Channel>> channel = Channel::Create(c.target, c.options);
    ASSERT_TRUE(channel.ok()) << channel.status();
    const absl::Status status =
        ConformanceStub(**channel).EchoInline(Message(), {.timeout = kLongTime}).status();
    EXPECT_TRUE(absl::IsUnavailable(status));
    EXPECT_EQ(status.message(), c.problem);
  }
}

}  // namespace
}  // namespace ferry::test::e2e
