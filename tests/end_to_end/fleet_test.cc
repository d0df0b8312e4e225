// Channels to services of several servers.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/fault_proxy.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

// A Host is one server of the service, which counts its calls.
class Host final : public ConformanceService {
 public:
  explicit Host(const std::string& address = "127.0.0.1:0") { Listen(address); }

  absl::Status EchoInline(ServerContext& context, const Message& request, Message& reply) override {
    calls_.fetch_add(1);
    reply.set_id(request.id());
    if (busy.load() > 0 && busy.fetch_sub(1) > 0) {
      context.set_retry_after(busy_for);
      return absl::UnavailableError("too much to do");
    }
    return failing.load() ? absl::UnavailableError("out of order") : absl::OkStatus();
  }
  absl::Status EchoExecutor(ServerContext& context, const Message& request, Message& reply) override {
    return EchoInline(context, request, reply);
  }
  void StartHold(HeldCall call) override {
    calls_.fetch_add(1);
    absl::MutexLock lock(&mutex_);
    held_.push_back(std::move(call));
  }

  void FinishHeld() {
    absl::MutexLock lock(&mutex_);
    for (HeldCall& call : held_) std::move(call).Finish(absl::OkStatus());
    held_.clear();
  }

  void Listen(const std::string& address) {
    server_ = std::make_unique<Server>(ServerOptions{.inline_budget = absl::Hours(1), .reuse_port = true});
    server_->Register(*this);
    const absl::Status listening = server_->Listen(address);
    ASSERT_TRUE(listening.ok()) << listening;
    address_ = server_->addresses().front();
  }
  // Cuts every connection.
  void Stop() {
    server_ = nullptr;
    absl::MutexLock lock(&mutex_);
    held_.clear();
  }
  void StartAgain() { Listen(address_); }

  const std::string& address() const { return address_; }
  int calls() const { return calls_.load(); }

  std::atomic<bool> failing{false};
  // How many more calls it turns away, for later.
  std::atomic<int> busy{0};
  // Before it is called.
  absl::Duration busy_for = absl::Milliseconds(1);

 private:
  std::atomic<int> calls_{0};
  absl::Mutex mutex_;
  std::vector<HeldCall> held_ ABSL_GUARDED_BY(mutex_);
  std::string address_;
  std::unique_ptr<Server> server_;
};

class FleetTest : public testing::Test {
 protected:
  void Connect(const ChannelOptions& options = {}) {
    absl::StatusOr<std::unique_ptr<Channel>> created =
        Channel::CreateResolved("greeters", names_.Factory(), options);
    ASSERT_TRUE(created.ok()) << created.status();
    channel_ = *std::move(created);
    stub_ = std::make_unique<ConformanceStub>(*channel_);
  }
  void Tell(const std::vector<Host*>& hosts) {
    std::vector<std::string> addresses;
    addresses.reserve(hosts.size());
    for (const Host* host : hosts) addresses.push_back(host->address());
    names_.Tell(addresses);
  }
  // The status without its detail.
  absl::Status Call(const CallOptions& options = {.timeout = kLongTime}) {
    Message request;
    request.set_id(++id_);
    const absl::StatusOr<Message> reply = stub_->EchoInline(request, options);
    if (!reply.ok()) {
      failure_ = FailureOf(reply.status()).value_or(CallFailure());
      return absl::Status(reply.status().code(), reply.status().message());
    }
    EXPECT_EQ(reply->id(), id_);
    return absl::OkStatus();
  }
  // Makes calls until each of the hosts has had one.
  ::testing::AssertionResult ReachesAll(const std::vector<Host*>& hosts) {
    std::vector<int> before;
    before.reserve(hosts.size());
    for (const Host* host : hosts) before.push_back(host->calls());
    for (int i = 0; i < 1'000'000; ++i) {
      if (const absl::Status status = Call(); !status.ok()) return testing::AssertionFailure() << status;
      size_t reached = 0;
      for (size_t j = 0; j < hosts.size(); ++j) reached += hosts[j]->calls() > before[j];
      if (reached == hosts.size()) return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << "not all hosts were reached";
  }

  std::array<Host, 3> hosts_;
  ManualNames names_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
  uint64_t id_ = 0;
  // Of the last call that failed.
  CallFailure failure_;
};

TEST_F(FleetTest, SpreadsCallsOverAllServers) {
  Connect();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
}

TEST_F(FleetTest, CallsWaitForTheFirstList) {
  Connect();
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  Tell({&hosts_[0]});
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, NamesTheServiceThatHasNoServers) {
  Connect();
  names_.Tell(std::vector<std::string>());
  const absl::Status status = Call();
  EXPECT_EQ(status, absl::UnavailableError("greeters has no servers"));
  EXPECT_EQ(failure_.execution(), CallFailure::NOT_SENT);
  EXPECT_EQ(failure_.phase(), CallFailure::CONNECT);
  EXPECT_EQ(failure_.attempt_count(), 0);
}

TEST_F(FleetTest, SaysWhyTheNameWasNotFound) {
  Connect();
  names_.Tell(absl::NotFoundError("greeters: no such name"));
  EXPECT_EQ(Call(), absl::UnavailableError("greeters: no such name"));
  EXPECT_EQ(failure_.phase(), CallFailure::RESOLVE);
}

TEST_F(FleetTest, ACallThatWaitsForReadyOutlivesAnEmptyList) {
  Connect();
  names_.Tell(std::vector<std::string>());
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.wait_for_ready = true},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_EQ(Call().code(), StatusCode::kUnavailable);
  Tell({&hosts_[1]});
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, KeepsTheLastListThroughAnError) {
  Connect();
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::OkStatus());
  names_.Tell(absl::UnavailableError("the name server is away"));
  EXPECT_EQ(Call(), absl::OkStatus());
}

TEST_F(FleetTest, ServersJoinAndLeave) {
  Connect();
  Tell({&hosts_[0]});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  Tell({&hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[1], &hosts_[2]}));
  const int calls = hosts_[0].calls();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), calls);
}

TEST_F(FleetTest, NoCallFailsWhileServersStopAndStart) {
  Connect();
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  callers.reserve(3);
  absl::Mutex mutex;
  absl::Status failure;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      while (!stop.load()) {
        const absl::Status status = stub_->EchoInline(Message(), {.timeout = kLongTime}).status();
        absl::MutexLock lock(&mutex);
        failure.Update(status);
      }
    });
  }
  const auto reached = [&] {
    std::array<int, 3> before;
    for (int i = 0; i < 3; ++i) before[i] = hosts_[i].calls();
    return Eventually([&] {
      return hosts_[0].calls() > before[0] && hosts_[1].calls() > before[1] && hosts_[2].calls() > before[2];
    });
  };
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(reached());
    hosts_[i % 3].Stop();
    hosts_[i % 3].StartAgain();
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failure, absl::OkStatus());
}

TEST_F(FleetTest, AnIdempotentCallIsSentToAnotherServer) {
  Connect();
  hosts_[0].failing = true;
  Tell({&hosts_[0], &hosts_[1]});
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_GT(hosts_[0].calls(), 0);
}

TEST_F(FleetTest, OneThatIsNotIdempotentIsNot) {
  Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin},
           .outliers = {.failures_in_a_row = 0, .max_failure_share = 1, .ramp_time = absl::ZeroDuration()}});
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  const int before[] = {hosts_[0].calls(), hosts_[1].calls()};
  hosts_[0].failing = true;
  int failed = 0;
  for (int i = 0; i < 20; ++i) failed += !stub_->EchoExecutor(Message()).ok();
  EXPECT_GT(failed, 0);
  EXPECT_EQ(failed, hosts_[0].calls() - before[0]);
  EXPECT_EQ(20 - failed, hosts_[1].calls() - before[1]);
}

TEST_F(FleetTest, TriesNoMoreThanMaxAttempts) {
  Connect({.retry = {.max_attempts = 2}});
  for (Host& host : hosts_) host.failing = true;
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_EQ(Call(), absl::UnavailableError("out of order"));
  EXPECT_EQ(hosts_[0].calls() + hosts_[1].calls() + hosts_[2].calls(), 2);
  EXPECT_EQ(failure_.execution(), CallFailure::EXECUTED);
  EXPECT_EQ(failure_.phase(), CallFailure::EXECUTING);
  EXPECT_EQ(failure_.attempt_count(), 2);
  ASSERT_EQ(failure_.attempts_size(), 2);
  EXPECT_NE(failure_.attempts(0).peer(), failure_.attempts(1).peer());
  EXPECT_EQ(failure_.peer(), failure_.attempts(1).peer());
  EXPECT_EQ(failure_.attempts(0).message(), "out of order");
}

TEST_F(FleetTest, WaitsAsLongAsABusyServerAsks) {
  Connect();
  hosts_[0].busy = 1;
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), 2);
  hosts_[0].busy = 3;
  EXPECT_EQ(Call(), absl::UnavailableError("too much to do"));
  EXPECT_EQ(failure_.attempt_count(), 3);
}

TEST_F(FleetTest, DoesNotComeBackToAServerThatAsksForMoreThanAMinute) {
  Connect();
  hosts_[0].busy = 1;
  hosts_[0].busy_for = absl::Minutes(2);
  Tell({&hosts_[0]});
  EXPECT_EQ(Call(), absl::UnavailableError("too much to do"));
  EXPECT_EQ(hosts_[0].calls(), 1);
}

TEST_F(FleetTest, RetriesDoNotOutgrowTheirBudget) {
  Connect({.outliers = {.failures_in_a_row = 0, .max_failure_share = 1},
           .retry_budget = {.share = 0, .min_per_second = 0, .max_tokens = 10}});
  for (Host& host : hosts_) host.failing = true;
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call().code(), StatusCode::kUnavailable);
  EXPECT_EQ(hosts_[0].calls() + hosts_[1].calls() + hosts_[2].calls(), 110);
}

TEST_F(FleetTest, AServerWhoseCallsFailIsTakenOut) {
  Connect({.balancing = {.policy = BalancingPolicy::kRoundRobin},
           .outliers = {
               .failures_in_a_row = 5, .base_ejection = absl::Hours(1), .max_ejection = absl::Hours(1)}});
  hosts_[0].failing = true;
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(Call(), absl::OkStatus());
    return hosts_[0].calls() >= 5;
  }));
  // In the batch of its fifth failure, before the call has ended elsewhere.
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
  EXPECT_EQ(hosts_[0].calls(), 5);
}

TEST_F(FleetTest, ACallThatWasLostMayHaveBeenExecuted) {
  Connect();
  Tell({&hosts_[0]});
  Later<absl::StatusOr<Message>> reply;
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[1].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address()});
  Later<absl::StatusOr<Message>> lost;
  EXPECT_TRUE(ReachesAll({&hosts_[1]}));
  const int calls = hosts_[1].calls();
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { lost.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[1].calls() > calls; }));
  (*proxy)->ResetConnections();
  const absl::Status status = lost.Wait().status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  const std::optional<CallFailure> failure = FailureOf(status);
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->execution(), CallFailure::MAYBE_EXECUTED);
  EXPECT_EQ(failure->phase(), CallFailure::SENT);
  EXPECT_EQ(failure->peer(), (*proxy)->address());
  hosts_[0].FinishHeld();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, ABlackHoleIsNoticedByItsSilence) {
  Connect({.keepalive_time = absl::Milliseconds(100)});
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[0].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address()});
  EXPECT_TRUE(ReachesAll({&hosts_[0]}));
  ASSERT_TRUE((*proxy)->SetFaults({.black_hole = true}).ok());
  // Without a deadline.
  const absl::StatusOr<Message> reply = stub_->EchoExecutor(Message());
  EXPECT_EQ(reply.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(reply.status().message()), HasSubstr("no sign of life"));
  EXPECT_EQ(FailureOf(reply.status()).value_or(CallFailure()).execution(), CallFailure::MAYBE_EXECUTED);
}

TEST_F(FleetTest, AnIdempotentCallInABlackHoleIsSentToAnotherServer) {
  Connect({.keepalive_time = absl::Milliseconds(100)});
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(hosts_[0].address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  names_.Tell({(*proxy)->address(), hosts_[1].address()});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1]}));
  ASSERT_TRUE((*proxy)->SetFaults({.black_hole = true}).ok());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Call(), absl::OkStatus());
}

TEST_F(FleetTest, CallsOfOneKeyGoToOneServer) {
  Connect({.balancing = {.policy = BalancingPolicy::kConsistentHash}});
  Tell({&hosts_[0], &hosts_[1], &hosts_[2]});
  EXPECT_TRUE(ReachesAll({&hosts_[0], &hosts_[1], &hosts_[2]}));
  for (int key = 0; key < 20; ++key) {
    std::vector<int> before;
    before.reserve(hosts_.size());
    for (const Host& host : hosts_) before.push_back(host.calls());
    for (int i = 0; i < 10; ++i) EXPECT_EQ(Call({.hash_key = std::to_string(key)}), absl::OkStatus());
    int used = 0;
    for (int i = 0; i < 3; ++i) used += hosts_[i].calls() > before[i];
    EXPECT_EQ(used, 1) << key;
  }
}

TEST_F(FleetTest, AllServersMayGoAndComeBack) {
  Connect();
  Tell({&hosts_[0], &hosts_[1]});
  EXPECT_EQ(Call(), absl::OkStatus());
  hosts_[0].Stop();
  hosts_[1].Stop();
  EXPECT_TRUE(Eventually([&] { return absl::IsUnavailable(Call()); }));
  const absl::Status status = Call();
  EXPECT_THAT(std::string(status.message()), HasSubstr("greeters"));
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.wait_for_ready = true},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  hosts_[1].StartAgain();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, CancelsACallWhereverItIs) {
  Connect();
  std::stop_source waiting, sent;
  Later<absl::StatusOr<Message>> first, second;
  stub_->Hold(Message(), {.stop_token = waiting.get_token()},
              [&](absl::StatusOr<Message> r) { first.Set(std::move(r)); });
  waiting.request_stop();
  EXPECT_EQ(first.Wait().status().code(), StatusCode::kCancelled);
  Tell({&hosts_[0]});
  stub_->Hold(Message(), {.stop_token = sent.get_token()},
              [&](absl::StatusOr<Message> r) { second.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  sent.request_stop();
  EXPECT_EQ(second.Wait().status().code(), StatusCode::kCancelled);
}

TEST_F(FleetTest, ADeadlineEndsACallThatWaits) {
  Connect();
  const absl::Status status = Call({.timeout = absl::Milliseconds(1), .wait_for_ready = true});
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the servers of greeters are not known yet"));
}

TEST_F(FleetTest, DestroyingTheChannelEndsCallsThatWaitAndCallsThatAreSent) {
  Connect();
  Later<absl::StatusOr<Message>> waiting, sent;
  stub_->Hold(Message(), {.wait_for_ready = true},
              [&](absl::StatusOr<Message> r) { waiting.Set(std::move(r)); });
  channel_ = nullptr;
  EXPECT_EQ(waiting.Wait().status().code(), StatusCode::kCancelled);
  ManualNames names;
  absl::StatusOr<std::unique_ptr<Channel>> channel = Channel::CreateResolved("others", names.Factory());
  ASSERT_TRUE(channel.ok());
  names.Tell({hosts_[0].address()});
  ConformanceStub(**channel).Hold(Message(), {}, [&](absl::StatusOr<Message> r) { sent.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  *channel = nullptr;
  EXPECT_EQ(sent.Wait().status().code(), StatusCode::kCancelled);
}

TEST_F(FleetTest, TheChannelMayBeDestroyedInACallback) {
  Connect();
  Tell({&hosts_[0], &hosts_[1]});
  Later<bool> done;
  stub_->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
    channel_ = nullptr;
    done.Set(reply.ok());
  });
  EXPECT_TRUE(done.Wait());
}

TEST_F(FleetTest, CallsEndOnAServerThatHasLeftTheList) {
  Connect();
  Tell({&hosts_[0]});
  Later<absl::StatusOr<Message>> reply;
  stub_->Hold(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  EXPECT_TRUE(Eventually([&] { return hosts_[0].calls() == 1; }));
  Tell({&hosts_[1]});
  EXPECT_TRUE(ReachesAll({&hosts_[1]}));
  hosts_[0].FinishHeld();
  EXPECT_EQ(reply.Wait().status(), absl::OkStatus());
}

TEST_F(FleetTest, RefusesOptionsThatAreOutOfBounds) {
  EXPECT_EQ(Channel::CreateResolved("x", names_.Factory(), {.retry = {.max_attempts = 0}}).status(),
            absl::InvalidArgumentError("retry.max_attempts is 0, it must be 1 to 10"));
}

}  // namespace
}  // namespace ferry::test::e2e
