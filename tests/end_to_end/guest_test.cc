// Blocking callers that run their channel's loop themselves while they are alone, and who and what disturbs
// them.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/end_to_end/watched_channel.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

class GuestTest : public testing::TestWithParam<const char*> {
 protected:
  Served served_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Transports, GuestTest, testing::Values("127.0.0.1:0", "unix"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param) == "unix" ? "Unix" : "Tcp";
                         });

TEST_P(GuestTest, ALoneCallerReadsItsRepliesItself) {
  WatchedChannel channel(served_.address());
  channel.BecomeGuest();
  // Not all of them: the loop's own thread comes back when this one is not scheduled for a while.
  int read_here = 0;
  for (uint64_t id = 0; id < 500; ++id) {
    const Message request = MessageOf(id, id % 10 == 0 ? 100'000 : id);
    const absl::StatusOr<Message> reply = channel.stub().EchoInline(request);
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->id(), id);
    ASSERT_EQ(reply->payload(), request.payload());
    read_here += channel.ReadByThisThread();
  }
  EXPECT_GT(read_here, 0);
}

TEST_P(GuestTest, LoopsThatTheApplicationNamedAreNotLentOut) {
  const auto loops = transport::LoopGroup::Create({.threads = 1, .name = "clients"});
  ASSERT_TRUE(loops.ok());
  WatchedChannel channel(served_.address(), {.loops = loops->get()});
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(channel.stub().EchoInline(Message()).ok());
    ASSERT_FALSE(channel.ReadByThisThread());
  }
}

TEST_P(GuestTest, EveryWayToEndACallEndsALoneOne) {
  WatchedChannel channel(served_.address());
  Message fails;
  fails.set_code(static_cast<int>(StatusCode::kNotFound));
  fails.set_text("nobody");
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(channel.stub().FailInline(fails).status(), absl::NotFoundError("nobody"));
    EXPECT_TRUE(channel.stub().EchoExecutor(Message()).ok());
    EXPECT_TRUE(channel.stub().EchoLater(Message()).ok());
    EXPECT_EQ(channel.stub().EchoInline(Message(), {.timeout = absl::ZeroDuration()}).status().code(),
              StatusCode::kDeadlineExceeded);
    EXPECT_EQ(channel.stub().Missing(Message()).status().code(), StatusCode::kUnimplemented);
  }
}

TEST_P(GuestTest, DeadlinesEndTheCallsOfALoneCaller) {
  WatchedChannel channel(served_.address());
  for (int i = 0; i < 10; ++i) {
    channel.BecomeGuest();
    const absl::Status status = channel.stub().Hold(Message(), {.timeout = absl::Milliseconds(5)}).status();
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
    HeldCall held = served_.service.TakeHeld();
    EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
    std::move(held).Finish(absl::OkStatus());
  }
}

TEST_P(GuestTest, DeadlinesEndTheCallsThatALoneCallerLeavesBehind) {
  WatchedChannel channel(served_.address());
  for (int i = 0; i < 10; ++i) {
    channel.BecomeGuest();
    Later<absl::Status> ended;
    channel.stub().Hold(Message(), {.timeout = absl::Milliseconds(5)},
                        [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
    EXPECT_EQ(ended.Wait().code(), StatusCode::kDeadlineExceeded) << ended.Wait();
    served_.service.TakeHeld();
  }
}

TEST_P(GuestTest, NoCallbackRunsOnAThreadThatWaits) {
  for (int round = 0; round < 20; ++round) {
    WatchedChannel channel(served_.address());
    HeldLoneCall lone(channel, served_.service);
    Message fails;
    fails.set_code(static_cast<int>(StatusCode::kNotFound));
    std::vector<Later<std::thread::id>> ran(4);
    const auto tell = [&](size_t i) {
      return [&ran, i](const absl::StatusOr<Message>&) {
        EXPECT_TRUE(transport::EventLoop::InAnyLoop());
        ran[i].Set(std::this_thread::get_id());
      };
    };
    channel.stub().EchoInline(Message(), {}, tell(0));
    channel.stub().FailInline(fails, {}, tell(1));
    channel.stub().EchoInline(Message(), {.timeout = absl::ZeroDuration()}, tell(2));
    channel.stub().EchoExecutor(MessageOf(1, 100'000), {}, tell(3));
    const std::thread::id callbacks = ran[0].Wait();
    for (Later<std::thread::id>& thread : ran) EXPECT_EQ(thread.Wait(), callbacks);
    EXPECT_NE(callbacks, std::this_thread::get_id());
    EXPECT_NE(callbacks, lone.thread());
    lone.Finish();
    EXPECT_TRUE(lone.Wait().ok());
  }
}

TEST_P(GuestTest, CallbacksAndLoneCallersGoTogether) {
  constexpr int kCalls = 3'000;
  WatchedChannel channel(served_.address());
  const std::thread::id waits = std::this_thread::get_id();
  std::atomic<int> started{0};
  std::atomic<int> ended{0};
  std::thread starts([&] {
    while (started.load() < kCalls) {
      // One at a time, with time in between in which the other is alone.
      const int next = ++started;
      channel.stub().EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
        EXPECT_TRUE(reply.ok()) << reply.status();
        EXPECT_NE(std::this_thread::get_id(), waits);
        ++ended;
      });
      EXPECT_TRUE(Eventually([&] { return ended.load() == next; }));
    }
  });
  while (ended.load() < kCalls && !testing::Test::HasFailure()) {
    EXPECT_TRUE(channel.stub().EchoInline(Message()).ok());
  }
  starts.join();
  EXPECT_EQ(ended.load(), kCalls);
}

TEST_P(GuestTest, CallersJoinAndLeave) {
  constexpr int kThreads = 3;
  constexpr uint64_t kCalls = 50;
  WatchedChannel channel(served_.address());
  const auto call = [&](uint64_t id) {
    const Message request = MessageOf(id, id % 300);
    const absl::StatusOr<Message> reply = channel.stub().EchoInline(request);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), id);
    EXPECT_EQ(reply->payload(), request.payload());
  };
  for (int round = 0; round < 20; ++round) {
    // Alone.
    for (uint64_t id = 0; id < kCalls; ++id) call(id);
    // While others come and go.
    std::vector<std::thread> threads;
    for (int t = 1; t <= kThreads; ++t) {
      threads.emplace_back([&call, t] {
        for (uint64_t id = 0; id < kCalls * static_cast<uint64_t>(t); ++id) {
          call(static_cast<uint64_t>(t) << 32 | id);
        }
      });
    }
    for (uint64_t id = 0; id < kCalls; ++id) call(id);
    for (std::thread& thread : threads) thread.join();
  }
}

TEST_P(GuestTest, ACallerThatJoinsIsNotHeldUpByOneThatWaits) {
  for (int round = 0; round < 20; ++round) {
    WatchedChannel channel(served_.address());
    HeldLoneCall lone(channel, served_.service);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(channel.stub().EchoInline(Message()).ok());
    lone.Finish();
    EXPECT_TRUE(lone.Wait().ok());
  }
}

// ---------------------------------------------------------------- What a lone caller is interrupted by

TEST_P(GuestTest, DestroyingTheChannelEndsTheCallOfALoneCaller) {
  for (int round = 0; round < 20; ++round) {
    WatchedChannel channel(served_.address());
    HeldLoneCall lone(channel, served_.service);
    // And those of others, whose callbacks have returned by then.
    std::atomic<int> ended{0};
    for (int i = 0; i < round % 4; ++i) {
      channel.stub().Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
        EXPECT_EQ(reply.status().code(), StatusCode::kCancelled);
        EXPECT_TRUE(transport::EventLoop::InAnyLoop());
        ++ended;
      });
    }
    channel.Destroy();
    EXPECT_EQ(ended.load(), round % 4);
    EXPECT_EQ(Plain(lone.Wait()), absl::CancelledError("the channel was destroyed"));
  }
}

TEST_P(GuestTest, TheServersEndEndsTheCallOfALoneCaller) {
  WatchedChannel channel(served_.address());
  HeldLoneCall lone(channel, served_.service);
  served_.server.reset();
  const absl::Status& status = lone.Wait();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
}

TEST_P(GuestTest, AConnectionThatEndsIsNoticedWithoutAnotherCall) {
  for (const bool by_guest : {true, false}) {
    SCOPED_TRACE(by_guest);
    TestConformance service;
    const TemporaryDirectory directory;
    std::string address = NewAddress(GetParam(), directory);
    auto server = std::make_unique<Server>(ServerOptions{.threads = 1});
    server->Register(service);
    ASSERT_TRUE(server->Listen(address).ok());
    address = server->addresses().front();
    WatchedChannel channel(address);
    if (by_guest) {
      channel.BecomeGuest();
    } else {
      ASSERT_TRUE(channel.stub().EchoInline(Message()).ok());
    }
    server.reset();
    EXPECT_TRUE(Eventually([&] { return channel.counters().ends.load() > 0; }));
    // The next call finds another server there.
    server = std::make_unique<Server>(ServerOptions{.threads = 1});
    server->Register(service);
    const absl::Status listening = server->Listen(address);
    ASSERT_TRUE(listening.ok()) << listening;
    const absl::StatusOr<Message> reply = channel.stub().EchoInline(MessageOf(7, 7));
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 7u);
    channel.BecomeGuest();
  }
}

TEST_P(GuestTest, TheChannelMayBeDestroyedInACallbackOfItsOwn) {
  for (int round = 0; round < 20; ++round) {
    WatchedChannel channel(served_.address());
    HeldLoneCall lone(channel, served_.service);
    Later<bool> destroyed;
    channel.stub().EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
      channel.Destroy();
      destroyed.Set(true);
    });
    destroyed.Wait();
    EXPECT_EQ(Plain(lone.Wait()), absl::CancelledError("the channel was destroyed"));
  }
}

TEST_P(GuestTest, TheChannelMayBeDestroyedInACallbackOfAnother) {
  for (int round = 0; round < 20; ++round) {
    WatchedChannel channel(served_.address());
    HeldLoneCall lone(channel, served_.service);
    Later<bool> destroyed;
    served_.stub->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
      channel.Destroy();
      destroyed.Set(true);
    });
    destroyed.Wait();
    EXPECT_EQ(Plain(lone.Wait()), absl::CancelledError("the channel was destroyed"));
  }
}

}  // namespace
}  // namespace ferry::test::e2e
