// Hedged calls, as their servers see them.
#include <array>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

// A Host keeps the calls of an idempotent method, and what it has seen of them.
class Host final : public ConformanceService {
 public:
  Host() {
    server_ = std::make_unique<Server>(ServerOptions{.threads = 1, .inline_budget = absl::Hours(1)});
    server_->Register(*this);
    EXPECT_TRUE(server_->Listen("127.0.0.1:0").ok());
  }
  ~Host() override {
    absl::MutexLock lock(&mutex_);
    held_.clear();
  }

  void StartEchoInline(HeldCall call) override {
    absl::MutexLock lock(&mutex_);
    attempts_.push_back(call.context().attempt());
    if (!holds_) {
      call.reply().set_id(call.request().id());
      return std::move(call).Finish(absl::OkStatus());
    }
    held_.push_back(std::move(call));
  }

  void set_holds(bool holds) {
    absl::MutexLock lock(&mutex_);
    holds_ = holds;
  }
  std::vector<int> attempts() {
    absl::MutexLock lock(&mutex_);
    return attempts_;
  }
  // Whether the only call that is kept is not wanted any more; it is finished then.
  bool FinishCancelled() {
    absl::MutexLock lock(&mutex_);
    if (held_.size() != 1 || !held_.front().context().cancelled()) return false;
    std::move(held_.front()).Finish(absl::OkStatus());
    held_.clear();
    return true;
  }
  // Answers the only call that is kept.
  void Answer() {
    absl::MutexLock lock(&mutex_);
    ASSERT_EQ(held_.size(), 1);
    held_.front().reply().set_id(held_.front().request().id());
    std::move(held_.front()).Finish(absl::OkStatus());
    held_.clear();
  }
  std::string address() { return server_->addresses().front(); }

 private:
  absl::Mutex mutex_;
  bool holds_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<int> attempts_ ABSL_GUARDED_BY(mutex_);
  std::vector<HeldCall> held_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Server> server_;
};

class HedgingTest : public testing::Test {
 protected:
  // The first of the hosts is always the first to get a call.
  void Connect(const RetryPolicy& retry) {
    absl::StatusOr<std::unique_ptr<Channel>> created = Channel::CreateResolved(
        "greeters", names_.Factory(), {.balancing = {.policy = BalancingPolicy::kPickFirst}, .retry = retry});
    ASSERT_TRUE(created.ok()) << created.status();
    channel_ = *std::move(created);
    stub_ = std::make_unique<ConformanceStub>(*channel_);
    names_.Tell({hosts_[0].address(), hosts_[1].address()});
    ASSERT_TRUE(Eventually([this] { return channel_->server_counts().usable == 2; }));
  }

  // A call that both hosts get, and the second answers.
  absl::StatusOr<Message> CallAndLetTheSecondAnswer(const Message& request, const CallOptions& options) {
    Later<absl::StatusOr<Message>> reply;
    stub_->EchoInline(request, options, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
    for (Host& host : hosts_) EXPECT_TRUE(Eventually([&host] { return !host.attempts().empty(); }));
    hosts_[1].Answer();
    return reply.Wait();
  }

  std::array<Host, 2> hosts_;
  ManualNames names_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
};

TEST_F(HedgingTest, TheLosersHandlerSeesThatItIsCancelled) {
  Connect({.hedge_delay = absl::Milliseconds(1)});
  Message request;
  request.set_id(7);
  const absl::StatusOr<Message> reply = CallAndLetTheSecondAnswer(request, {});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), 7u);
  EXPECT_EQ(hosts_[0].attempts(), std::vector<int>({1}));
  EXPECT_EQ(hosts_[1].attempts(), std::vector<int>({2}));
  EXPECT_TRUE(Eventually([this] { return hosts_[0].FinishCancelled(); }));
}

TEST_F(HedgingTest, ACallOfItsOwnPolicyIsHedged) {
  Connect({});
  // Much larger than a fragment.
  Message request;
  request.set_payload(std::string(300'000, 'x'));
  const absl::StatusOr<Message> reply =
      CallAndLetTheSecondAnswer(request, {.retry = RetryPolicy{.hedge_delay = absl::Milliseconds(1)}});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(hosts_[1].attempts(), std::vector<int>({2}));
  EXPECT_TRUE(Eventually([this] { return hosts_[0].FinishCancelled(); }));
}

TEST_F(HedgingTest, TheCallerCancelsBothAttempts) {
  Connect({.hedge_delay = absl::Milliseconds(1)});
  std::stop_source stop;
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {.stop_token = stop.get_token()},
                    [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  ASSERT_TRUE(Eventually([this] { return !hosts_[1].attempts().empty(); }));
  stop.request_stop();
  EXPECT_TRUE(absl::IsCancelled(reply.Wait().status()));
  for (Host& host : hosts_) EXPECT_TRUE(Eventually([&host] { return host.FinishCancelled(); }));
}

TEST_F(HedgingTest, TheChannelMayBeDestroyedWithAttemptsUnderWay) {
  Connect({.hedge_delay = absl::Milliseconds(1)});
  Later<absl::StatusOr<Message>> reply;
  stub_->EchoInline(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  ASSERT_TRUE(Eventually([this] { return !hosts_[1].attempts().empty(); }));
  channel_ = nullptr;
  EXPECT_TRUE(absl::IsCancelled(reply.Wait().status()));
}

TEST_F(HedgingTest, TheChannelMayBeDestroyedInTheCallbackOfAHedgedCall) {
  Connect({.hedge_delay = absl::Milliseconds(1)});
  hosts_[1].set_holds(false);
  Later<bool> done;
  stub_->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
    channel_ = nullptr;
    done.Set(reply.ok());
  });
  EXPECT_TRUE(done.Wait());
}

TEST_F(HedgingTest, ACallThatAnswersInTimeIsAFirstAttempt) {
  Connect({.hedge_delay = kLongTime});
  hosts_[0].set_holds(false);
  EXPECT_TRUE(stub_->EchoInline(Message()).ok());
  EXPECT_EQ(hosts_[0].attempts(), std::vector<int>({1}));
  EXPECT_TRUE(hosts_[1].attempts().empty());
}

TEST_F(HedgingTest, RefusesAPolicyThatTheMethodDoesNotAllow) {
  Connect({});
  const absl::Status status =
      stub_->EchoExecutor(Message(), {.retry = RetryPolicy{.hedge_delay = absl::Milliseconds(1)}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_F(HedgingTest, AChannelToOneServerNeverHedges) {
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      Channel::Create(hosts_[0].address(), {.retry = {.hedge_delay = absl::Microseconds(1)}});
  ASSERT_TRUE(channel.ok()) << channel.status();
  const absl::Status status =
      ConformanceStub(**channel).EchoInline(Message(), {.timeout = absl::Milliseconds(500)}).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(hosts_[0].attempts(), std::vector<int>({1}));
}

}  // namespace
}  // namespace ferry::test::e2e
