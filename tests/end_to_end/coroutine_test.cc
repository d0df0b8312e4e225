// Calls from coroutines.
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/task_scope.h"
#include "ferry/rpc/thread_pool.h"
#include "ferry/rpc/waiting.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

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

}  // namespace
}  // namespace ferry::test::e2e
