// What a server serves, where it listens, and how it shuts down.
#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/thread_pool.h"
#include "ferry/rpc/waiting.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

TEST(ServerTest, ServesSeveralServicesOverOneConnection) {
  Served served;
  EXPECT_EQ(served.stub->EchoInline(MessageOf(1, 1))->id(), 1u);
  EXPECT_EQ(served.other->Echo(MessageOf(2, 2))->id(), 2u);
}

TEST(ServerTest, ServesSeveralAddresses) {
  const TemporaryDirectory directory;
  TestConformance service;
  Server server({.threads = 2});
  server.Register(service);
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  ASSERT_TRUE(server.Listen(NewAddress("unix", directory)).ok());
  ASSERT_EQ(server.addresses().size(), 3u);
  EXPECT_EQ(server.addresses()[2], NewAddress("unix", directory));
  for (const std::string& address : server.addresses()) {
    SCOPED_TRACE(address);
    const std::unique_ptr<Channel> channel = ChannelTo(address);
    EXPECT_TRUE(ConformanceStub(*channel).EchoInline(Message()).ok());
  }
}

TEST(ServerTest, RunsMethodsInlineAsItsOptionsSay) {
  Served served("127.0.0.1:0", {.threads = 1,
                                .run_inline = {{"ferry.test.e2e.Conformance/EchoInline", false},
                                               {"ferry.test.e2e.Conformance/EchoExecutor", true}}});
  EXPECT_FALSE(served.stub->EchoInline(Message())->on_loop());
  EXPECT_TRUE(served.stub->EchoExecutor(Message())->on_loop());
}

TEST(ServerTest, SaysWhyItCannotListen) {
  const TemporaryDirectory directory;
  Server other({.threads = 1});
  ASSERT_TRUE(other.Listen("127.0.0.1:0").ok());
  ASSERT_TRUE(other.Listen(NewAddress("unix", directory)).ok());
  const struct {
    std::string name;
    std::string address;
    StatusCode code;
    std::string problem;
  } kCases[] = {
      {"malformed", "nonsense", StatusCode::kInvalidArgument, "nonsense"},
      {"port too large", "127.0.0.1:65536", StatusCode::kInvalidArgument, "65536, limit is 65535"},
      {"port in use", other.addresses()[0], StatusCode::kFailedPrecondition, "Address already in use"},
      {"path in use", other.addresses()[1], StatusCode::kAlreadyExists, "another server listens there"},
      {"no such directory", "unix:" + directory.path() + "/none/socket", StatusCode::kNotFound,
       "/none/socket"},
  };
  TestConformance service;
  Server server({.threads = 1});
  server.Register(service);
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = server.Listen(c.address);
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), c.problem)) << status;
  }
  ASSERT_EQ(server.addresses().size(), 1u);
  const std::unique_ptr<Channel> channel = ChannelTo(server.addresses()[0]);
  EXPECT_TRUE(ConformanceStub(*channel).EchoInline(Message()).ok());
}

TEST(ServerTest, SaysThatAMethodIsRegisteredTwice) {
  TestConformance one, two;
  Server server({.threads = 1});
  server.Register(one);
  server.Register(two);
  const absl::Status status = server.Listen("127.0.0.1:0");
  EXPECT_EQ(status.code(), StatusCode::kAlreadyExists) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "ferry.test.e2e.Conformance/")) << status;
}

TEST(ServerTest, SaysThatAnOptionNamesNoMethod) {
  TestConformance service;
  Server server({.threads = 1, .run_inline = {{"ferry.test.e2e.Conformance/Nope", true}}});
  server.Register(service);
  const absl::Status status = server.Listen("127.0.0.1:0");
  EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "Conformance/Nope")) << status;
}

// ---------------------------------------------------------------- Shutdown

TEST(ShutdownTest, WaitsForCallsInFlight) {
  for (const std::string& transport : AvailableTransports()) {
    SCOPED_TRACE(transport);
    Served served(transport);
    Later<absl::StatusOr<Message>> held_ended, blocked_ended;
    served.stub->Hold(MessageOf(1, 1), {},
                      [&](absl::StatusOr<Message> reply) { held_ended.Set(std::move(reply)); });
    served.stub->Block(MessageOf(2, 2), {},
                       [&](absl::StatusOr<Message> reply) { blocked_ended.Set(std::move(reply)); });
    HeldCall held = served.service.TakeHeld();
    ASSERT_TRUE(served.service.WaitForBlocked(1));
    Later<bool> shut_down;
    std::thread shutdown([&] {
      served.server->Shutdown(kLongTime);
      shut_down.Set(true);
    });
    // New calls are refused, on the old connection and on new ones.
    absl::Status refused;
    EXPECT_TRUE(Eventually([&] {
      refused = served.stub->EchoInline(Message()).status();
      return !refused.ok();
    }));
    EXPECT_EQ(refused.code(), StatusCode::kUnavailable) << refused;
    EXPECT_FALSE(held.context().cancelled());
    held.reply().set_id(1);
    std::move(held).Finish(absl::OkStatus());
    served.service.Unblock();
    ASSERT_TRUE(held_ended.Wait().ok()) << held_ended.Wait().status();
    EXPECT_EQ(held_ended.Wait()->id(), 1u);
    ASSERT_TRUE(blocked_ended.Wait().ok()) << blocked_ended.Wait().status();
    EXPECT_EQ(blocked_ended.Wait()->id(), 2u);
    shut_down.Wait();
    shutdown.join();
    EXPECT_FALSE(served.stub->EchoInline(Message()).ok());
  }
}

TEST(ShutdownTest, CancelsCallsAfterTheGrace) {
  Served served;
  Later<absl::Status> held_ended, waiting_ended;
  served.stub->Hold(Message(), {},
                    [&](const absl::StatusOr<Message>& reply) { held_ended.Set(reply.status()); });
  served.stub->WaitUntilCancelled(
      Message(), {}, [&](const absl::StatusOr<Message>& reply) { waiting_ended.Set(reply.status()); });
  HeldCall held = served.service.TakeHeld();
  ASSERT_TRUE(served.service.WaitForWaiting(1));
  served.server->Shutdown(absl::Milliseconds(10));
  EXPECT_TRUE(held.context().cancelled());
  EXPECT_TRUE(served.service.WaitForCancelled(1));
  EXPECT_EQ(held_ended.Wait().code(), StatusCode::kUnavailable) << held_ended.Wait();
  EXPECT_EQ(waiting_ended.Wait().code(), StatusCode::kUnavailable) << waiting_ended.Wait();
  std::move(held).Finish(absl::OkStatus());
  // The second time there is nothing to do.
  served.server->Shutdown(kLongTime);
}

TEST(ShutdownTest, OfAServerThatNobodyCalledEndsAtOnce) {
  Server({.threads = 1}).Shutdown(kLongTime);
  Server server({.threads = 2});
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  server.Shutdown(kLongTime);
}

TEST(ShutdownTest, DoesNotWaitForIdleConnections) {
  Served served;
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  served.server->Shutdown(kLongTime);
}

TEST(ServerTest, RunsWhatWasLeftForTheDrainBeforeClientsAreTold) {
  Served served;
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  std::vector<std::string> order;
  served.server->OnDrain([&] {
    // Calls, and new connections, are served as ever.
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
    EXPECT_TRUE(ConformanceStub(*served.NewChannel()).EchoInline(Message()).ok());
    order.emplace_back("first");
  });
  served.server->OnDrain([&] { order.emplace_back("second"); });
  served.server->Shutdown(kLongTime);
  served.server->Shutdown(kLongTime);
  EXPECT_EQ(order, (std::vector<std::string>{"first", "second"}));
  served.server->OnDrain([&] { order.emplace_back("at once"); });
  EXPECT_EQ(order.back(), "at once");
}

// ---------------------------------------------------------------- Destroyed in its own handlers

// A Destroyer has a server whose handlers destroy it.
class Destroyer final : public ConformanceService {
 public:
  explicit Destroyer(int executor_threads) {
    server = std::make_unique<Server>(ServerOptions{.threads = 1, .executor_threads = executor_threads});
    server->Register(*this);
    if (!server->Listen("127.0.0.1:0").ok()) std::abort();
    channel = ChannelTo(server->addresses().front());
    stub = std::make_unique<ConformanceStub>(*channel);
  }

  absl::Status EchoExecutor(ServerContext&, const Message&, Message&) override {
    ++begun;
    destroy.WaitForNotification();
    server.reset();
    destroyed.Set(true);
    return absl::OkStatus();
  }
  absl::Status EchoInline(ServerContext&, const Message&, Message&) override {
    server.reset();
    return absl::OkStatus();
  }
  absl::Status WaitUntilCancelled(ServerContext& context, const Message&, Message&) override {
    waiting.Set(true);
    if (!Eventually([&] { return context.cancelled(); })) std::abort();
    ++ended;
    return absl::OkStatus();
  }

  std::atomic<int> begun{0};
  std::atomic<int> ended{0};
  absl::Notification destroy;
  Later<bool> waiting;
  Later<bool> destroyed;
  std::unique_ptr<Server> server;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ConformanceStub> stub;
};

TEST(ServerDestroyedTest, ByAHandlerOnItsExecutorWaitsForTheOthers) {
  Destroyer service(/*executor_threads=*/2);
  Later<absl::Status> one_ended, other_ended;
  service.stub->WaitUntilCancelled(
      Message(), {}, [&](const absl::StatusOr<Message>& reply) { one_ended.Set(reply.status()); });
  service.waiting.Wait();
  service.stub->EchoExecutor(Message(), {},
                             [&](const absl::StatusOr<Message>& reply) { other_ended.Set(reply.status()); });
  service.destroy.Notify();
  service.destroyed.Wait();
  EXPECT_EQ(service.ended, 1);
  EXPECT_EQ(one_ended.Wait().code(), StatusCode::kUnavailable) << one_ended.Wait();
  EXPECT_EQ(other_ended.Wait().code(), StatusCode::kUnavailable) << other_ended.Wait();
}

TEST(ServerDestroyedTest, ByTheOnlyHandlerStartsNoneOfThoseThatWait) {
  Destroyer service(/*executor_threads=*/1);
  std::atomic<int> ended{0};
  for (int i = 0; i < 10; ++i) {
    service.stub->EchoExecutor(Message(), {}, [&](const absl::StatusOr<Message>&) { ++ended; });
  }
  ASSERT_TRUE(Eventually([&] { return service.begun == 1; }));
  service.destroy.Notify();
  service.destroyed.Wait();
  EXPECT_TRUE(Eventually([&] { return ended == 10; }));
  EXPECT_EQ(service.begun, 1);
}

TEST(ServerDestroyedDeathTest, OnAnEventLoopsThreadWithABorrowedServiceSaysSo) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(static_cast<void>(Destroyer(1).stub->EchoInline(Message())),
               "on an event loop's thread.* does not own its services");
}

// A Doomed is a server that is destroyed where it cannot wait: its service is its own.
struct Doomed {
  Doomed();

  void Destroy() {
    server.reset();
    destroyed.Set(true);
  }

  // Calls a handler that runs until it is cancelled; its call's end is for ended.Wait().
  void BeginAnother() {
    stub->WaitUntilCancelled(Message(), {},
                             [this](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
    waiting.Wait();
  }
  void ExpectItsEnd() {
    destroyed.Wait();
    EXPECT_EQ(ended.Wait().code(), StatusCode::kUnavailable) << ended.Wait();
    service_gone.Wait();
    EXPECT_EQ(stub->EchoInline(Message()).status().code(), StatusCode::kUnavailable);
  }

  Later<bool> waiting;
  Later<bool> destroyed;
  Later<bool> service_gone;
  Later<absl::Status> ended;
  std::unique_ptr<Server> server = std::make_unique<Server>(ServerOptions{.threads = 2});
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ConformanceStub> stub;
};

class DoomedService final : public ConformanceService {
 public:
  explicit DoomedService(Doomed& doomed) : doomed_(doomed) {}
  ~DoomedService() override { doomed_.service_gone.Set(true); }

  absl::Status EchoInline(ServerContext&, const Message&, Message&) override {
    doomed_.Destroy();
    return absl::OkStatus();
  }
  Task<absl::Status> CoEchoExecutor(ServerContext& context, const Message&, Message&) override {
    static_cast<void>(co_await SwitchTo(*context.executor()));
    doomed_.Destroy();
    co_return absl::OkStatus();
  }
  void StartEchoLater(UnaryCall<Message, Message> call) override {
    held_.push_back(std::move(call));
    doomed_.waiting.Set(true);
  }
  absl::Status WaitUntilCancelled(ServerContext& context, const Message&, Message&) override {
    doomed_.waiting.Set(true);
    if (!Eventually([&] { return context.cancelled(); })) std::abort();
    return absl::OkStatus();
  }

 private:
  Doomed& doomed_;
  std::vector<UnaryCall<Message, Message>> held_;
};

Doomed::Doomed() {
  server->Register(std::make_shared<DoomedService>(*this));
  if (!server->Listen("127.0.0.1:0").ok()) std::abort();
  channel = ChannelTo(server->addresses().front());
  stub = std::make_unique<ConformanceStub>(*channel);
}

TEST(ServerDestroyedTest, ByAnInlineHandlerEndsByItself) {
  Doomed doomed;
  doomed.BeginAnother();
  static_cast<void>(doomed.stub->EchoInline(Message()));
  doomed.ExpectItsEnd();
}

TEST(ServerDestroyedTest, ByAHandlerThatIsACoroutineEndsByItself) {
  Doomed doomed;
  doomed.BeginAnother();
  static_cast<void>(doomed.stub->EchoExecutor(Message()));
  doomed.ExpectItsEnd();
}

TEST(ServerDestroyedTest, InAClientsCallbackEndsByItself) {
  Doomed doomed;
  doomed.BeginAnother();
  doomed.stub->FailInline(Message(), {}, [&doomed](const absl::StatusOr<Message>&) { doomed.Destroy(); });
  doomed.ExpectItsEnd();
}

TEST(ServerDestroyedTest, ItsServiceGoesThoughItHoldsACall) {
  Doomed doomed;
  doomed.stub->EchoLater(Message(), {},
                         [&](const absl::StatusOr<Message>& reply) { doomed.ended.Set(reply.status()); });
  doomed.waiting.Wait();
  doomed.Destroy();
  doomed.ExpectItsEnd();
}

// A LingeringService's handler stays until it may go, whatever is cancelled.
class LingeringService final : public ConformanceService {
 public:
  struct Outside {
    Later<bool> running;
    absl::Notification go;
    std::atomic<bool> service_gone{false};
  };

  explicit LingeringService(Outside& outside) : outside_(outside) {}
  ~LingeringService() override { outside_.service_gone = true; }

  absl::Status EchoExecutor(ServerContext&, const Message&, Message&) override {
    outside_.running.Set(true);
    outside_.go.WaitForNotification();
    return absl::OkStatus();
  }

 private:
  Outside& outside_;
};

TEST(ServerDestroyedTest, ItsServiceOutlivesHandlersOnAnExecutorOfOthers) {
  LingeringService::Outside outside;
  ThreadPool executor({.threads = 1});
  auto server = std::make_unique<Server>(ServerOptions{.threads = 1, .executor = &executor});
  server->Register(std::make_shared<LingeringService>(outside));
  ASSERT_TRUE(server->Listen("127.0.0.1:0").ok());
  const std::unique_ptr<Channel> channel = ChannelTo(server->addresses().front());
  Later<absl::Status> ended;
  ConformanceStub(*channel).EchoExecutor(
      Message(), {}, [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  outside.running.Wait();
  server.reset();
  EXPECT_EQ(ended.Wait().code(), StatusCode::kUnavailable) << ended.Wait();
  EXPECT_FALSE(outside.service_gone);
  outside.go.Notify();
  EXPECT_TRUE(Eventually([&] { return outside.service_gone.load(); }));
}

TEST(ServerDestroyedTest, OnAnEventLoopsThreadDrainsFirst) {
  Doomed doomed;
  bool drained = false;
  doomed.server->OnDrain([&] { drained = true; });
  static_cast<void>(doomed.stub->EchoInline(Message()));
  doomed.destroyed.Wait();
  EXPECT_TRUE(drained);
  doomed.service_gone.Wait();
}

TEST(ServerDestroyedTest, OnAnEventLoopsThreadAfterItsShutdownEndsByItself) {
  Doomed doomed;
  doomed.stub->FailInline(Message(), {}, [&doomed](const absl::StatusOr<Message>&) {
    std::thread([&doomed] { doomed.server->Shutdown(absl::ZeroDuration()); }).join();
    doomed.Destroy();
  });
  doomed.service_gone.Wait();
}

TEST(ServerTest, ItsDestructorDrainsToo) {
  int drained = 0;
  {
    Server server({.threads = 1});
    server.OnDrain([&] { ++drained; });
  }
  EXPECT_EQ(drained, 1);
}

}  // namespace
}  // namespace ferry::test::e2e
