// Coroutines as handlers.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// Handlers that are coroutines.
class Waiters final : public ConformanceService {
 public:
  explicit Waiters(ConformanceStubInterface* backend = nullptr) : backend_(backend) {}

  Task<absl::Status> CoEchoInline(ServerContext&, const Message& request, Message& reply) override {
    reply.set_id(request.id());
    co_return absl::OkStatus();
  }
  // Begins on the executor, and says where it is.
  Task<absl::Status> CoDescribe(ServerContext& context, const Message&, Message& reply) override {
    if (transport::EventLoop::InAnyLoop()) co_return absl::InternalError("began on a loop");
    if (absl::Status slept = co_await Sleep(absl::Milliseconds(1)); !slept.ok()) co_return slept;
    if (!context.loop().InLoop()) co_return absl::InternalError("slept elsewhere than on the loop");
    if (absl::Status away = co_await SwitchTo(*context.executor()); !away.ok()) co_return away;
    reply.set_on_loop(transport::EventLoop::InAnyLoop());
    co_return absl::OkStatus();
  }
  // Waits until it is cancelled.
  Task<absl::Status> CoHold(ServerContext&, const Message&, Message&) override {
    ++waiting_;
    const absl::Status slept = co_await Sleep(absl::InfiniteDuration());
    ++woken_;
    co_return slept;
  }
  // Has another server do it.
  Task<absl::Status> CoWaitUntilCancelled(ServerContext&, const Message& request, Message& reply) override {
    absl::StatusOr<Message> answer = co_await backend_->CoHold(request);
    if (!answer.ok()) co_return answer.status();
    reply = *std::move(answer);
    co_return absl::OkStatus();
  }
  // Not a coroutine.
  absl::Status EchoExecutor(ServerContext&, const Message& request, Message& reply) override {
    reply.set_id(request.id() + 1);
    return absl::OkStatus();
  }

  uint64_t waiting() const { return waiting_.load(); }
  uint64_t woken() const { return woken_.load(); }

 private:
  ConformanceStubInterface* const backend_;
  std::atomic<uint64_t> waiting_{0};
  std::atomic<uint64_t> woken_{0};
};

// A server of Waiters, and a channel to it.
class Waiting {
 public:
  explicit Waiting(ConformanceStubInterface* backend = nullptr) : service(backend) {
    server = std::make_unique<Server>(ServerOptions{.threads = 2, .executor_threads = 1});
    server->Register(service);
    EXPECT_TRUE(server->Listen("127.0.0.1:0").ok());
    channel = ChannelTo(server->addresses().front());
    stub = std::make_unique<ConformanceStub>(*channel);
  }

  Waiters service;
  std::unique_ptr<Server> server;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ConformanceStub> stub;
};

TEST(CoroutineHandlerTest, AnswersCalls) {
  Waiting served;
  const absl::StatusOr<Message> reply = served.stub->EchoInline(MessageOf(7, 0));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), 7u);
  const absl::StatusOr<Message> described = served.stub->Describe(Message());
  ASSERT_TRUE(described.ok()) << described.status();
  EXPECT_FALSE(described->on_loop());
}

TEST(CoroutineHandlerTest, StandsBesideOtherHandlers) {
  Waiting served;
  const absl::StatusOr<Message> reply = served.stub->EchoExecutor(MessageOf(7, 0));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), 8u);
  EXPECT_EQ(served.stub->Missing(Message()).status().code(), StatusCode::kUnimplemented);
}

TEST(CoroutineHandlerTest, IsWokenWhenItsCallIsCancelled) {
  Waiting served;
  std::stop_source stop;
  Later<absl::Status> ended;
  served.stub->Hold(Message(), {.stop_token = stop.get_token()},
                    [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  ASSERT_TRUE(Eventually([&] { return served.service.waiting() == 1; }));
  EXPECT_EQ(served.service.woken(), 0u);
  stop.request_stop();
  EXPECT_TRUE(absl::IsCancelled(ended.Wait()));
  EXPECT_TRUE(Eventually([&] { return served.service.woken() == 1; }));
}

TEST(CoroutineHandlerTest, PassesItsCancellationOn) {
  Served backend;
  Waiting served(backend.stub.get());
  std::stop_source stop;
  Later<absl::Status> ended;
  served.stub->WaitUntilCancelled(Message(), {.timeout = absl::Hours(1), .stop_token = stop.get_token()},
                                  [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  HeldCall held = backend.service.TakeHeld();
  EXPECT_LE(held.context().time_left(), absl::Hours(1));
  stop.request_stop();
  EXPECT_TRUE(absl::IsCancelled(ended.Wait()));
  EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
  std::move(held).Finish(absl::OkStatus());
}

TEST(CoroutineHandlerTest, EndsBeforeItsServerIsDestroyed) {
  for (int round = 0; round < 20; ++round) {
    Waiting served;
    std::vector<Later<absl::Status>> ended(10);
    for (Later<absl::Status>& end : ended) {
      served.stub->Hold(Message(), {},
                        [&end](const absl::StatusOr<Message>& reply) { end.Set(reply.status()); });
    }
    ASSERT_TRUE(Eventually([&] { return served.service.waiting() == ended.size(); }));
    served.server.reset();
    EXPECT_EQ(served.service.woken(), ended.size());
    for (Later<absl::Status>& end : ended) EXPECT_FALSE(end.Wait().ok());
  }
}

}  // namespace
}  // namespace ferry::test::e2e
