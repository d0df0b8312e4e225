// Channels with several connections to each server.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/callers.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::SizeIs;

using State = ConnectionStats::State;

// A Host is one server of the service, which looks at which connections its calls come on.
class Host final : public ConformanceService {
 public:
  Host() { StartAgain(); }

  absl::Status EchoInline(ServerContext& context, const Message& request, Message& reply) override {
    return Serve(context, request, reply);
  }
  absl::Status EchoExecutor(ServerContext& context, const Message& request, Message& reply) override {
    return Serve(context, request, reply);
  }

  void Stop() { server_ = nullptr; }
  void StartAgain() {
    server_ = std::make_unique<Server>(
        ServerOptions{.threads = 2, .inline_budget = absl::Hours(1), .reuse_port = true});
    server_->Register(*this);
    const absl::Status listening = server_->Listen(address_);
    ASSERT_TRUE(listening.ok()) << listening;
    address_ = server_->addresses().front();
  }

  const std::string& address() const { return address_; }
  int calls() const { return calls_.load(); }
  // How many connections have carried calls.
  size_t connections() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return peers_.size();
  }
  // The most calls that were served at a time, on one connection and in all.
  int most_on_one() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return most_on_one_;
  }
  int most() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return most_;
  }

 private:
  absl::Status Serve(ServerContext& context, const Message& request, Message& reply) {
    calls_.fetch_add(1);
    {
      absl::MutexLock lock(&mutex_);
      peers_.insert(context.peer());
      most_on_one_ = std::max(most_on_one_, ++now_[context.peer()]);
      most_ = std::max(most_, ++all_now_);
    }
    std::this_thread::yield();
    reply.set_id(request.id());
    absl::MutexLock lock(&mutex_);
    --now_[context.peer()];
    --all_now_;
    return absl::OkStatus();
  }

  std::string address_ = "127.0.0.1:0";
  std::atomic<int> calls_{0};
  mutable absl::Mutex mutex_;
  std::set<std::string> peers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> now_ ABSL_GUARDED_BY(mutex_);
  int all_now_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_on_one_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<Server> server_;
};

// Makes calls over a channel, every third in callback form, for Callers.
std::function<absl::Status(uint64_t)> EchoesOver(Channel& channel) {
  return [stub = std::make_shared<ConformanceStub>(channel)](uint64_t id) {
    Message request;
    request.set_id(id);
    absl::StatusOr<Message> reply;
    if (id % 3 == 0) {
      Later<absl::StatusOr<Message>> later;
      stub->EchoExecutor(request, {.timeout = kLongTime},
                         [&](absl::StatusOr<Message> r) { later.Set(std::move(r)); });
      reply = later.Wait();
    } else {
      reply = stub->EchoExecutor(request, {.timeout = kLongTime});
    }
    if (reply.ok() && reply->id() != id) return absl::DataLossError("another call's reply");
    return reply.status();
  };
}

class PoolTest : public testing::Test {
 protected:
  void Connect(const PoolOptions& pool) { channel_ = ChannelTo(host_.address(), {.pool = pool}); }

  Host host_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(PoolTest, NoCallFailsWhileConnectionsAreReplacedAndClosed) {
  Connect({.max_connections = 4,
           .calls_per_connection = 1,
           .idle_timeout = absl::Milliseconds(1),
           .max_age = absl::Milliseconds(20),
           .max_age_jitter = 0.9});
  Callers callers(4, EchoesOver(*channel_));
  EXPECT_TRUE(Eventually([&] { return host_.connections() >= 30; }));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(PoolTest, ExclusiveConnectionsHaveOneCallEach) {
  Connect({.max_connections = 3, .exclusive = true});
  Callers callers(6, EchoesOver(*channel_));
  EXPECT_TRUE(Eventually([&] { return host_.most() == 3 && host_.calls() > 500; }));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
  EXPECT_EQ(host_.most_on_one(), 1);
  EXPECT_EQ(host_.most(), 3);
  EXPECT_EQ(host_.connections(), 3u);
}

TEST_F(PoolTest, ExclusiveConnectionsAreReplacedToo) {
  Connect(
      {.max_connections = 2, .exclusive = true, .max_age = absl::Milliseconds(20), .max_age_jitter = 0.9});
  Callers callers(4, EchoesOver(*channel_));
  EXPECT_TRUE(Eventually([&] { return host_.connections() >= 20; }));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
  EXPECT_EQ(host_.most_on_one(), 1);
}

TEST_F(PoolTest, ACallerThatIsAloneMakesOneConnection) {
  for (const bool exclusive : {false, true}) {
    Connect({.max_connections = 3, .exclusive = exclusive});
    ConformanceStub stub(*channel_);
    for (int i = 0; i < 500; ++i) EXPECT_EQ(stub.EchoInline(Message()).status(), absl::OkStatus());
    EXPECT_THAT(channel_->connections(), SizeIs(1));
  }
  EXPECT_EQ(host_.connections(), 2u);
}

TEST_F(PoolTest, AMinimumIsConnectedBeforeAnyCall) {
  Connect({.min_connections = 3, .max_connections = 3});
  EXPECT_TRUE(Eventually([&] {
    const std::vector<ConnectionStats> connections = channel_->connections();
    return connections.size() == 3 && std::all_of(connections.begin(), connections.end(),
                                                  [](const auto& c) { return c.state == State::kReady; });
  }));
  EXPECT_EQ(host_.calls(), 0);
}

TEST_F(PoolTest, ACallThatFailsSaysWhatIsKnownOfIt) {
  Connect({.max_connections = 2});
  host_.Stop();
  const absl::Status status = ConformanceStub(*channel_).EchoInline(Message()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  const CallFailure failure = FailureOf(status).value_or(CallFailure());
  EXPECT_EQ(failure.errno_value(), ECONNREFUSED);
  EXPECT_EQ(failure.phase(), CallFailure::CONNECT);
  EXPECT_EQ(failure.execution(), CallFailure::NOT_SENT);
  EXPECT_EQ(failure.peer(), host_.address());
  // Nothing else is left in it.
  int payloads = 0;
  status.ForEachPayload([&](absl::string_view, const absl::Cord&) { ++payloads; });
  EXPECT_EQ(payloads, 1);
}

TEST_F(PoolTest, TheChannelMayBeDestroyedInACallback) {
  for (const PoolOptions& pool : {PoolOptions{.min_connections = 2, .max_connections = 2},
                                  PoolOptions{.max_connections = 2, .exclusive = true}}) {
    Connect(pool);
    Later<absl::Status> done;
    ConformanceStub stub(*channel_);
    stub.EchoExecutor(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
      channel_ = nullptr;
      done.Set(reply.status());
    });
    EXPECT_EQ(done.Wait(), absl::OkStatus());
    EXPECT_EQ(channel_, nullptr);
  }
}

TEST_F(PoolTest, CallsOfManyThreadsEndWhenTheChannelDoes) {
  for (int i = 0; i < 20; ++i) {
    Connect({.max_connections = 3, .exclusive = i % 2 == 0, .max_age = absl::Milliseconds(5)});
    ConformanceStub stub(*channel_);
    std::atomic<int> ended{0};
    for (int call = 0; call < 50; ++call) {
      stub.EchoExecutor(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
        EXPECT_TRUE(reply.ok() || absl::IsCancelled(reply.status())) << reply.status();
        ended.fetch_add(1);
      });
    }
    channel_ = nullptr;
    EXPECT_EQ(ended.load(), 50);
  }
}

TEST_F(PoolTest, TellsOfAChannelsOneConnection) {
  Connect({});
  EXPECT_THAT(channel_->connections(), SizeIs(0));
  ConformanceStub stub(*channel_);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(stub.EchoInline(Message()).ok());
  const std::vector<ConnectionStats> connections = channel_->connections();
  ASSERT_THAT(connections, SizeIs(1));
  EXPECT_EQ(connections[0].server, host_.address());
  EXPECT_THAT(connections[0].peer, HasSubstr(host_.address()));
  EXPECT_EQ(connections[0].state, State::kReady);
  EXPECT_EQ(connections[0].calls_started, 3u);
  EXPECT_EQ(connections[0].calls_in_flight, 0u);
  EXPECT_GT(connections[0].age, absl::ZeroDuration());
  EXPECT_GT(connections[0].bytes_written, 0u);
  EXPECT_GT(connections[0].bytes_read, 0u);
}

TEST_F(PoolTest, TellsOfTheConnectionsInACallback) {
  Connect({});
  ConformanceStub stub(*channel_);
  Later<size_t> count;
  stub.EchoInline(Message(), {},
                  [&](const absl::StatusOr<Message>&) { count.Set(channel_->connections().size()); });
  EXPECT_EQ(count.Wait(), 1u);
}

TEST_F(PoolTest, OptionsOutOfBoundsAreRefused) {
  const ChannelOptions options{.pool = {.max_connections = 0}};
  for (const std::string_view target : {"127.0.0.1:1", "list:///127.0.0.1:1"}) {
    const absl::Status status = Channel::Create(target, options).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("pool.max_connections is 0"));
  }
}

// ---------------------------------------------------------------- A service of several servers

class FleetOfPoolsTest : public testing::Test {
 protected:
  void Connect(const PoolOptions& pool) {
    absl::StatusOr<std::unique_ptr<Channel>> created =
        Channel::CreateResolved("greeters", names_.Factory(), {.pool = pool});
    ASSERT_TRUE(created.ok()) << created.status();
    channel_ = *std::move(created);
    names_.Tell({hosts_[0].address(), hosts_[1].address()});
  }

  std::array<Host, 2> hosts_;
  ManualNames names_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(FleetOfPoolsTest, EachServerHasItsConnections) {
  Connect({.min_connections = 2, .max_connections = 3});
  std::map<std::string, int> ready;
  EXPECT_TRUE(Eventually([&] {
    ready.clear();
    for (const ConnectionStats& connection : channel_->connections()) {
      if (connection.state == State::kReady) ++ready[connection.server];
    }
    return ready[hosts_[0].address()] == 2 && ready[hosts_[1].address()] == 2;
  }));
  EXPECT_THAT(ready, SizeIs(2));
}

TEST_F(FleetOfPoolsTest, NoCallFailsWhileConnectionsAreReplaced) {
  Connect({.max_connections = 3,
           .calls_per_connection = 1,
           .idle_timeout = absl::Milliseconds(1),
           .max_age = absl::Milliseconds(20),
           .max_age_jitter = 0.9});
  Callers callers(4, EchoesOver(*channel_));
  EXPECT_TRUE(Eventually([&] { return hosts_[0].connections() >= 15 && hosts_[1].connections() >= 15; }));
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(FleetOfPoolsTest, NoIdempotentCallFailsWhileServersStopAndStart) {
  Connect({.min_connections = 2, .max_connections = 3, .calls_per_connection = 1});
  ConformanceStub stub(*channel_);
  Callers callers(3, [&](uint64_t) { return stub.EchoInline(Message(), {.timeout = kLongTime}).status(); });
  for (int i = 0; i < 8; ++i) {
    const int before[] = {hosts_[0].calls(), hosts_[1].calls()};
    EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() > before[0] && hosts_[1].calls() > before[1]; }));
    hosts_[i % 2].Stop();
    hosts_[i % 2].StartAgain();
  }
  EXPECT_EQ(callers.Stop(), absl::OkStatus());
}

TEST_F(FleetOfPoolsTest, AServerThatLeavesTheListLosesItsConnections) {
  Connect({.min_connections = 2, .max_connections = 2});
  ConformanceStub stub(*channel_);
  EXPECT_TRUE(stub.EchoInline(Message()).ok());
  names_.Tell({hosts_[1].address()});
  EXPECT_TRUE(Eventually([&] {
    const std::vector<ConnectionStats> connections = channel_->connections();
    return std::none_of(connections.begin(), connections.end(),
                        [&](const auto& c) { return c.server == hosts_[0].address(); });
  }));
  EXPECT_TRUE(stub.EchoInline(Message()).ok());
}

}  // namespace
}  // namespace ferry::test::e2e
