// Cancelling calls from outside, and with the work that they are made for.
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// Takes the call that a handler holds, and ends it when it has seen that it is cancelled.
void ExpectHeldCallIsCancelled(TestConformance& service) {
  HeldCall held = service.TakeHeld();
  EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
  std::move(held).Finish(absl::OkStatus());
}

TEST(CancelTokenTest, EndsABlockingCall) {
  for (const std::string& transport : AvailableTransports()) {
    SCOPED_TRACE(transport);
    Served served(transport);
    std::stop_source stop;
    std::thread canceller([&] {
      ASSERT_TRUE(served.service.WaitForHeld(1));
      stop.request_stop();
    });
    const absl::Status status = served.stub->Hold(Message(), {.stop_token = stop.get_token()}).status();
    canceller.join();
    EXPECT_EQ(Plain(status), absl::CancelledError("the caller cancelled the call"));
    ExpectHeldCallIsCancelled(served.service);
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  }
}

TEST(CancelTokenTest, EndsABlockingCallThatRunsTheLoopItself) {
  Served served;
  std::stop_source stop;
  // So many alone that the channel lends its loop to the next.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  std::thread canceller([&] {
    ASSERT_TRUE(served.service.WaitForHeld(1));
    stop.request_stop();
  });
  EXPECT_TRUE(absl::IsCancelled(served.stub->Hold(Message(), {.stop_token = stop.get_token()}).status()));
  canceller.join();
  ExpectHeldCallIsCancelled(served.service);
}

TEST(CancelTokenTest, OfOneSourceEndsManyCallsOfEveryForm) {
  Served served;
  std::stop_source stop;
  const CallOptions options{.stop_token = stop.get_token()};
  std::vector<Later<absl::Status>> ended(200);
  std::vector<Message> replies(ended.size());
  for (size_t i = 0; i < ended.size(); i += 2) {
    served.stub->Hold(Message(), options,
                      [&ended, i](const absl::StatusOr<Message>& reply) { ended[i].Set(reply.status()); });
    served.stub->Hold(Message(), replies[i + 1], options,
                      [&ended, i](absl::Status status) { ended[i + 1].Set(std::move(status)); });
  }
  ASSERT_TRUE(served.service.WaitForHeld(ended.size()));
  stop.request_stop();
  for (Later<absl::Status>& status : ended) EXPECT_TRUE(absl::IsCancelled(status.Wait()));
  for (size_t i = 0; i < ended.size(); ++i) ExpectHeldCallIsCancelled(served.service);
}

TEST(CancelTokenTest, MayBeStoppedBeforeTheCall) {
  Served served;
  std::stop_source stop;
  stop.request_stop();
  const absl::Status status = served.stub->Hold(Message(), {.stop_token = stop.get_token()}).status();
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
  EXPECT_TRUE(absl::StrContains(status.message(), "Conformance/Hold")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "nothing was sent")) << status;
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  EXPECT_EQ(served.service.held(), 0u);
}

TEST(CancelTokenTest, EndsACallThatWaitsForAConnection) {
  const TemporaryDirectory directory;
  const std::unique_ptr<Channel> channel = ChannelTo(NewAddress("unix", directory));
  ConformanceStub stub(*channel);
  std::stop_source stop;
  Later<absl::Status> ended;
  stub.EchoInline(Message(), {.wait_for_ready = true, .stop_token = stop.get_token()},
                  [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  stop.request_stop();
  EXPECT_EQ(Plain(ended.Wait()), absl::CancelledError("the caller cancelled the call"));
}

TEST(CancelTokenTest, StoppedAfterTheCallDoesNothing) {
  Served served;
  std::stop_source stop;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(served.stub->EchoInline(Message(), {.stop_token = stop.get_token()}).ok());
  }
  stop.request_stop();
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
}

// Requests race with starts and ends, on two threads.
TEST(CancelTokenTest, MayBeStoppedAtAnyTime) {
  Served served;
  for (int round = 0; round < 200; ++round) {
    std::stop_source stop;
    Later<absl::Status> ended;
    std::thread canceller([&] { stop.request_stop(); });
    served.stub->EchoInline(Message(), {.stop_token = stop.get_token()},
                            [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
    canceller.join();
    const absl::Status& status = ended.Wait();
    EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
  }
}

TEST(CancelTokenTest, TenThousandCancelledCallsLeaveOneHealthyConnection) {
  constexpr size_t kRounds = 100, kCalls = 100;
  Served served;
  for (size_t round = 0; round < kRounds; ++round) {
    std::stop_source stop;
    std::vector<Later<absl::Status>> ended(kCalls);
    for (Later<absl::Status>& end : ended) {
      served.stub->Hold(Message(), {.stop_token = stop.get_token()},
                        [&end](const absl::StatusOr<Message>& reply) { end.Set(reply.status()); });
    }
    ASSERT_TRUE(served.service.WaitForHeld(kCalls));
    stop.request_stop();
    for (Later<absl::Status>& end : ended) ASSERT_TRUE(absl::IsCancelled(end.Wait()));
    std::string peer;
    for (size_t i = 0; i < kCalls; ++i) {
      HeldCall held = served.service.TakeHeld();
      // Every call came on the same connection.
      if (peer.empty()) peer = held.context().peer();
      ASSERT_EQ(held.context().peer(), peer);
      ASSERT_TRUE(Eventually([&] { return held.context().cancelled(); }));
      std::move(held).Finish(absl::OkStatus());
    }
    const absl::StatusOr<Message> reply = served.stub->Describe(Message());
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->peer(), peer);
  }
  EXPECT_EQ(served.server->counters().answers_dropped, kRounds * kCalls);
}

// ---------------------------------------------------------------- What the server drops

TEST(DroppedWorkTest, IsNotStartedAndCounted) {
  constexpr size_t kCalls = 5;
  Served served("127.0.0.1:0", {.threads = 1, .executor_threads = 1});
  Later<absl::Status> blocked;
  served.stub->Block(Message(), {},
                     [&](const absl::StatusOr<Message>& reply) { blocked.Set(reply.status()); });
  ASSERT_TRUE(served.service.WaitForBlocked(1));
  std::stop_source stop;
  std::vector<Later<absl::Status>> ended(kCalls);
  for (Later<absl::Status>& end : ended) {
    served.stub->Block(Message(), {.stop_token = stop.get_token()},
                       [&end](const absl::StatusOr<Message>& reply) { end.Set(reply.status()); });
  }
  // They are in the executor's queue when this is answered, which is sent behind them.
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  stop.request_stop();
  for (Later<absl::Status>& end : ended) EXPECT_TRUE(absl::IsCancelled(end.Wait()));
  // The server has read the cancels.
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  EXPECT_EQ(served.server->counters().calls_dropped, 0u);
  served.service.Unblock();
  EXPECT_TRUE(blocked.Wait().ok());
  EXPECT_TRUE(Eventually([&] { return served.server->counters().calls_dropped == kCalls; }));
  EXPECT_EQ(served.service.ever_blocked(), 1u);
}

// ---------------------------------------------------------------- What a handler's calls inherit

// A Relay passes each call on to another server.
class Relay final : public ConformanceService {
 public:
  explicit Relay(ConformanceStubInterface& backend) : backend_(backend) {}

  // From an executor's thread.
  absl::Status DescribeWithTimeout(ServerContext&, const Message& request, Message& reply) override {
    return backend_.Describe(request, reply, {.timeout = absl::Hours(2)});
  }
  absl::Status WaitUntilCancelled(ServerContext&, const Message& request, Message& reply) override {
    return backend_.Hold(request, reply);
  }
  // From a loop, without waiting.
  void StartHold(HeldCall call) override {
    Message& reply = call.reply();
    const Message& request = call.request();
    backend_.Hold(request, reply, {}, [call = std::move(call)](absl::Status status) mutable {
      std::move(call).Finish(std::move(status));
    });
  }
  // The call goes on when the caller does not wait any more.
  void StartHoldBriefly(HeldCall call) override {
    backend_.Hold(call.request(), {.detached = true}, [](const absl::StatusOr<Message>&) {});
    std::move(call).Finish(absl::OkStatus());
  }
  // Ends before the call that it makes.
  void StartMissingInline(HeldCall call) override {
    backend_.Hold(call.request(), {}, [](const absl::StatusOr<Message>&) {});
    std::move(call).Finish(absl::OkStatus());
  }
  // What a handler does after its call is for nobody.
  void StartFailLater(HeldCall call) override {
    scope_before = CallScope::Current();
    context_of_call = &call.context();
    std::move(call).Finish(absl::OkStatus());
    scope_after.Set(CallScope::Current());
  }
  // From a thread that knows nothing of the call.
  void StartEchoLater(HeldCall call) override {
    std::thread([this, call = std::move(call)]() mutable {
      absl::Status status = backend_.Hold(call.request(), call.reply(), {.scope = &call.context()});
      std::move(call).Finish(std::move(status));
    }).detach();
  }

  CallScope* scope_before = nullptr;
  CallScope* context_of_call = nullptr;
  Later<CallScope*> scope_after;

 private:
  ConformanceStubInterface& backend_;
};

// A Chain is a client, a Relay and what that passes calls on to.
class Chain {
 public:
  Chain() {
    relay_server_.Register(relay);
    EXPECT_TRUE(relay_server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(relay_server_.addresses().front());
    stub = std::make_unique<ConformanceStub>(*channel_);
  }

  Served backend;
  Relay relay{*backend.stub};

 private:
  Server relay_server_{ServerOptions{.threads = 1}};
  std::unique_ptr<Channel> channel_;

 public:
  std::unique_ptr<ConformanceStub> stub;
};

TEST(InheritTest, ACallHasNoMoreTimeThanTheHandlerThatMakesIt) {
  Chain chain;
  const absl::StatusOr<Message> reply =
      chain.stub->DescribeWithTimeout(Message(), {.timeout = absl::Minutes(5)});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_LE(reply->time_left(), absl::ToInt64Nanoseconds(absl::Minutes(5)));
  EXPECT_GT(reply->time_left(), absl::ToInt64Nanoseconds(absl::Minutes(4)));
}

TEST(InheritTest, ACallIsCancelledWithTheHandlerThatMakesIt) {
  using Start =
      void (ConformanceStubInterface::*)(const Message&, const CallOptions&, ReplyCallback<Message>);
  const struct {
    const char* name;
    Start start;
  } kCases[] = {
      {"a blocking call on the executor", &ConformanceStubInterface::WaitUntilCancelled},
      {"a callback call on the loop", &ConformanceStubInterface::Hold},
      {"a call that names its scope", &ConformanceStubInterface::EchoLater},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    Chain chain;
    std::stop_source stop;
    Later<absl::Status> ended;
    ConformanceStubInterface& stub = *chain.stub;
    (stub.*c.start)(Message(), {.stop_token = stop.get_token()},
                    [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
    ASSERT_TRUE(chain.backend.service.WaitForHeld(1));
    stop.request_stop();
    EXPECT_TRUE(absl::IsCancelled(ended.Wait()));
    ExpectHeldCallIsCancelled(chain.backend.service);
  }
}

TEST(InheritTest, ADetachedCallGoesOn) {
  Chain chain;
  ASSERT_TRUE(chain.stub->HoldBriefly(Message(), {.timeout = absl::Hours(1)}).ok());
  HeldCall held = chain.backend.service.TakeHeld();
  EXPECT_EQ(held.context().time_left(), absl::InfiniteDuration());
  EXPECT_FALSE(held.context().cancelled());
  std::move(held).Finish(absl::OkStatus());
}

TEST(InheritTest, ACallThatGoesOnWhenItsHandlerHasEndedIsCancelled) {
  Chain chain;
  // There is a connection to send the call on.
  ASSERT_TRUE(chain.backend.stub->EchoInline(Message()).ok());
  ASSERT_TRUE(chain.stub->MissingInline(Message()).ok());
  ExpectHeldCallIsCancelled(chain.backend.service);
}

TEST(InheritTest, AHandlerThatHasFinishedItsCallHasNoScope) {
  Chain chain;
  ASSERT_TRUE(chain.stub->FailLater(Message()).ok());
  EXPECT_EQ(chain.relay.scope_after.Wait(), nullptr);
  EXPECT_NE(chain.relay.scope_before, nullptr);
  EXPECT_EQ(chain.relay.scope_before, chain.relay.context_of_call);
}

TEST(InheritTest, OutsideOfHandlersThereIsNothingToInherit) { EXPECT_EQ(CallScope::Current(), nullptr); }

}  // namespace
}  // namespace ferry::test::e2e
