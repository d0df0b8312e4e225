// Calls from coroutines, and coroutines as handlers.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/task_scope.h"
#include "ferry/rpc/thread_pool.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// ---------------------------------------------------------------- Clients

TEST(CoroutineClientTest, Calls) {
  for (const std::string& transport : AvailableTransports()) {
    SCOPED_TRACE(transport);
    Served served(transport);
    auto work = [](ConformanceStub& stub) -> Task<absl::Status> {
      for (uint64_t id = 1; id <= 100; ++id) {
        const Message request = MessageOf(id, id * 100);
        Task<absl::StatusOr<Message>> call =
            id % 2 == 0 ? stub.CoEchoInline(request) : stub.CoEchoExecutor(request);
        const absl::StatusOr<Message> reply = co_await call;
        if (!reply.ok()) co_return reply.status();
        if (reply->id() != id || reply->payload() != MessageOf(id, id * 100).payload()) {
          co_return absl::InternalError("another reply");
        }
      }
      co_return absl::OkStatus();
    };
    EXPECT_EQ(BlockOn(served.channel->loop(), work(*served.stub)), absl::OkStatus());
  }
}

TEST(CoroutineClientTest, SeesHowACallFails) {
  Served served;
  auto missing = [](ConformanceStub& stub) -> Task<StatusCode> {
    co_return (co_await stub.CoMissing(Message())).status().code();
  };
  EXPECT_EQ(BlockOn(served.channel->loop(), missing(*served.stub)), StatusCode::kUnimplemented);
  auto fails = [](ConformanceStub& stub) -> Task<absl::Status> {
    Message request;
    request.set_code(static_cast<int>(StatusCode::kNotFound));
    request.set_text("no such thing");
    co_return (co_await stub.CoFailExecutor(request)).status();
  };
  EXPECT_EQ(BlockOn(served.channel->loop(), fails(*served.stub)), absl::NotFoundError("no such thing"));
  auto late = [](ConformanceStub& stub) -> Task<StatusCode> {
    const CallOptions options{.timeout = absl::Milliseconds(10)};
    co_return (co_await stub.CoHold(Message(), options)).status().code();
  };
  EXPECT_EQ(BlockOn(served.channel->loop(), late(*served.stub)), StatusCode::kDeadlineExceeded);
}

TEST(CoroutineClientTest, ItsCallsAreUnderWayBeforeItWaits) {
  Served served;
  auto work = [](Served& to) -> Task<bool> {
    Task<absl::StatusOr<Message>> first = to.stub->CoHold(MessageOf(1, 0));
    Task<absl::StatusOr<Message>> second = to.stub->CoHold(MessageOf(2, 0));
    // Only the other thread's handlers can bring them here.
    if (const absl::Status away = co_await SwitchTo(*CallScope::Current()->executor()); !away.ok()) {
      co_return false;
    }
    if (!to.service.WaitForHeld(2)) co_return false;
    for (int i = 0; i < 2; ++i) {
      HeldCall held = to.service.TakeHeld();
      held.reply().set_id(held.request().id());
      std::move(held).Finish(absl::OkStatus());
    }
    const absl::StatusOr<Message> later = co_await second;
    const absl::StatusOr<Message> sooner = co_await first;
    co_return (later.ok() && later->id() == 2 && sooner.ok() && sooner->id() == 1);
  };
  ThreadPool pool({.threads = 1});
  TaskScope scope(served.channel->loop(), {}, &pool);
  auto root = [&]() -> Task<bool> { co_return co_await work(served).In(scope); };
  EXPECT_TRUE(BlockOn(served.channel->loop(), root()));
}

TEST(CoroutineClientTest, ACallThatNobodyWaitsForIsCancelled) {
  Served served;
  Task<absl::StatusOr<Message>> dropped = served.stub->CoHold(Message());
  HeldCall held = served.service.TakeHeld();
  EXPECT_FALSE(held.context().cancelled());
  dropped = Task<absl::StatusOr<Message>>();
  EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
  std::move(held).Finish(absl::OkStatus());
}

TEST(CoroutineClientTest, IsStoppedWithItsScope) {
  Served served;
  std::stop_source stop;
  Later<absl::Status> ended;
  auto work = [](ConformanceStub& stub) -> Task<absl::Status> {
    co_return (co_await stub.CoHold(Message())).status();
  };
  Spawn(served.channel->loop(), work(*served.stub),
        [&ended](absl::Status status) { ended.Set(std::move(status)); }, {.stop_token = stop.get_token()});
  HeldCall held = served.service.TakeHeld();
  stop.request_stop();
  EXPECT_EQ(Plain(ended.Wait()), absl::CancelledError("the work that the call was made for was cancelled"));
  EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
  std::move(held).Finish(absl::OkStatus());
}

TEST(CoroutineClientTest, ItsCallsHaveNoMoreTimeThanIt) {
  Served served;
  auto work = [](ConformanceStub& stub) -> Task<absl::StatusOr<Message>> {
    co_return co_await stub.CoDescribe(Message(), {.timeout = absl::Hours(2)});
  };
  const absl::StatusOr<Message> reply =
      BlockOn(served.channel->loop(), work(*served.stub), {.timeout = absl::Minutes(5)});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_LE(reply->time_left(), absl::ToInt64Nanoseconds(absl::Minutes(5)));
  EXPECT_GT(reply->time_left(), absl::ToInt64Nanoseconds(absl::Minutes(4)));
}

TEST(CoroutineClientTest, IsToldWhenItsChannelIsDestroyed) {
  Served served;
  std::unique_ptr<Channel> channel = served.NewChannel();
  ConformanceStub stub(*channel);
  Later<absl::Status> ended;
  auto work = [](ConformanceStub& to) -> Task<absl::Status> {
    co_return (co_await to.CoHold(Message())).status();
  };
  // It runs on a loop that stays.
  Spawn(served.channel->loop(), work(stub), [&ended](absl::Status status) { ended.Set(std::move(status)); });
  HeldCall held = served.service.TakeHeld();
  channel.reset();
  EXPECT_EQ(Plain(ended.Wait()), absl::CancelledError("the channel was destroyed"));
  std::move(held).Finish(absl::OkStatus());
}

// A fake's coroutine form is made of the form that it implements.
class FakeOther final : public OtherStubInterface {
 public:
  using OtherStubInterface::Echo;
  absl::Status Echo(const Message& request, Message& reply, const CallOptions&) override {
    reply.set_id(request.id() + 1);
    return absl::OkStatus();
  }
};

TEST(CoroutineClientTest, MayBeGivenAFake) {
  Served served;
  FakeOther fake;
  auto work = [](OtherStubInterface& stub) -> Task<uint64_t> {
    const absl::StatusOr<Message> reply = co_await stub.CoEcho(MessageOf(1, 0));
    co_return reply.ok() ? reply->id() : 0;
  };
  EXPECT_EQ(BlockOn(served.channel->loop(), work(fake)), 2u);
}

// ---------------------------------------------------------------- Handlers

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

// ---------------------------------------------------------------- Streams

// As TestStreams, in coroutines.
class CoroutineStreams final : public StreamsService {
 public:
  Task<absl::Status> CoCollect(ServerContext&, StreamReader<Part> requests, Part& reply) override {
    uint64_t parts = 0;
    Part part;
    while (co_await requests.CoRead(part)) {
      if (part.code() != 0) co_return StatusOf(part);
      ++parts;
      reply.set_payload(part.payload());
    }
    reply.set_id(parts);
    co_return absl::OkStatus();
  }
  Task<absl::Status> CoSend(ServerContext&, const Part& request, StreamWriter<Part> replies) override {
    uint64_t id = 0;
    for (const uint32_t size : request.sizes()) {
      if (!co_await replies.CoWrite(PartOf(id++, size))) break;
    }
    co_return StatusOf(request);
  }
  Task<absl::Status> CoPingPong(ServerContext&, StreamReader<Part> requests,
                                StreamWriter<Part> replies) override {
    Part part;
    while (co_await requests.CoRead(part)) {
      if (part.code() != 0) co_return StatusOf(part);
      if (!co_await replies.CoWrite(PartOf(part.id(), part.sizes(0)))) break;
    }
    ++ended;
    co_return absl::OkStatus();
  }

  std::atomic<int> ended{0};
};

class CoroutineStreamTest : public ::testing::Test {
 protected:
  CoroutineStreamTest() {
    server_.Register(service_);
    EXPECT_TRUE(server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(server_.addresses().front());
    stub_ = std::make_unique<StreamsStub>(*channel_);
  }

  CoroutineStreams service_;
  Server server_{ServerOptions{.threads = 1, .executor_threads = 1}};
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<StreamsStub> stub_;
};

TEST_F(CoroutineStreamTest, RequestsAreCollected) {
  // More than the window.
  constexpr uint64_t kParts = 300;
  auto work = [](StreamsStub& stub) -> Task<absl::StatusOr<Part>> {
    auto stream = stub.Collect();
    for (uint64_t id = 0; id < kParts; ++id) {
      if (!co_await stream.CoWrite(PartOf(id, 10'000))) break;
    }
    co_return co_await stream.CoFinish();
  };
  const absl::StatusOr<Part> reply = BlockOn(channel_->loop(), work(*stub_));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), kParts);
  EXPECT_EQ(reply->payload(), PartOf(kParts - 1, 10'000).payload());
}

TEST_F(CoroutineStreamTest, RepliesComeInOrder) {
  auto work = [](StreamsStub& stub) -> Task<absl::Status> {
    Part request;
    for (uint32_t i = 0; i < 300; ++i) request.add_sizes(i * 100);
    request.set_code(static_cast<int>(StatusCode::kOutOfRange));
    request.set_text("that was all");
    auto stream = stub.Send(request);
    Part part;
    uint64_t id = 0;
    while (co_await stream.CoRead(part)) {
      if (part.id() != id || part.payload() != PartOf(id, id * 100).payload()) {
        co_return absl::InternalError("another part");
      }
      ++id;
    }
    if (id != 300) co_return absl::InternalError("not all parts");
    // A status that no other thread has: libabsl, which TSan does not see into, may be the last to use one.
    const absl::Status end = co_await stream.CoFinish();
    co_return absl::Status(end.code(), end.message());
  };
  EXPECT_EQ(BlockOn(channel_->loop(), work(*stub_)), absl::OutOfRangeError("that was all"));
}

TEST_F(CoroutineStreamTest, BothSidesTakeTurns) {
  auto work = [](StreamsStub& stub) -> Task<absl::Status> {
    auto stream = stub.PingPong();
    for (uint64_t id = 0; id < 100; ++id) {
      Part ping = PartOf(id, 0);
      ping.add_sizes(1000);
      if (!co_await stream.CoWrite(ping)) break;
      Part pong;
      if (!co_await stream.CoRead(pong)) break;
      if (pong.id() != id) co_return absl::InternalError("another pong");
    }
    stream.WritesDone();
    co_return co_await stream.CoFinish();
  };
  EXPECT_EQ(BlockOn(channel_->loop(), work(*stub_)), absl::OkStatus());
}

TEST_F(CoroutineStreamTest, AReaderIsWokenWhenTheCallIsCancelled) {
  std::stop_source stop;
  {
    auto stream = stub_->PingPong({.stop_token = stop.get_token()});
    Part ping = PartOf(1, 0);
    ping.add_sizes(1);
    ASSERT_TRUE(stream.Write(ping));
    Part pong;
    ASSERT_TRUE(stream.Read(pong));
    EXPECT_EQ(service_.ended, 0);
    stop.request_stop();
    EXPECT_FALSE(stream.Read(pong));
    EXPECT_EQ(Plain(stream.Finish()), absl::CancelledError("the caller cancelled the call"));
  }
  EXPECT_TRUE(Eventually([&] { return service_.ended == 1; }));
}

}  // namespace
}  // namespace ferry::test::e2e
