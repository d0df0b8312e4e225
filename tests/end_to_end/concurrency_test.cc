// Many calls at once, and connections that come and go meanwhile.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/concurrency_fixture.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/process_resources.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

// A sanitizer makes calls an order of magnitude slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kShare = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr uint64_t kShare = 10;
#else
constexpr uint64_t kShare = 1;
#endif
#else
constexpr uint64_t kShare = 1;
#endif

INSTANTIATE_TEST_SUITE_P(Transports, ConcurrencyTest, testing::ValuesIn(kTransports), NameOfTransport);

TEST_P(ConcurrencyTest, ThreadsShareAChannel) {
  constexpr int kThreads = 8;
  constexpr uint64_t kCalls = 2'000 / kShare;
  Served served(GetParam());
  Tally tally;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kCalls; ++i) {
        const uint64_t id = static_cast<uint64_t>(t) << 32 | i;
        const Message request = MessageOf(id, SizeOf(i));
        const absl::StatusOr<Message> reply =
            Call(*served.stub, kEchoes[i % 3], kForms[(i / 3) % 4], request);
        ++(Matches(request, reply) ? tally.right : tally.wrong);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tally.wrong, 0u);
  EXPECT_EQ(tally.right, kThreads * kCalls);
}

// Callbacks alone start calls for a while, again and again, and then a thread comes along.
TEST_P(ConcurrencyTest, ThreadsJoinALoopThatCallsAlone) {
  constexpr uint64_t kCalls = 12'000;
  Served served(GetParam());
  std::atomic<uint64_t> ended{0};
  std::atomic<uint64_t> failed{0};
  absl::Notification done;
  std::function<void()> next = [&] {
    served.stub->EchoInline(MessageOf(1, 10), {}, [&](const absl::StatusOr<Message>& reply) {
      if (!reply.ok()) ++failed;
      if (++ended == kCalls) return done.Notify();
      next();
    });
  };
  next();
  // The loop keeps the connection for itself after 1,024 calls, and then after 8,192.
  for (const uint64_t join_at : {uint64_t{1'500}, uint64_t{11'000}}) {
    ASSERT_TRUE(Eventually([&] { return ended >= join_at; }));
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < 20; ++i) {
          const Message request = MessageOf(i, SizeOf(i));
          if (!Matches(request, Call(*served.stub, kEchoes[i % 3], kForms[t], request))) ++failed;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  Await(done);
  EXPECT_EQ(failed, 0u);
}

TEST_P(ConcurrencyTest, CallbacksStartTheNextCalls) {
  constexpr uint64_t kCalls = 20'000 / kShare;
  Served served(GetParam());
  Chains chains(*served.stub, kCalls, 128);
  chains.Start();
  chains.Wait();
  EXPECT_EQ(chains.tally().right, kCalls);
  EXPECT_EQ(chains.most_ends(), 1u);
  EXPECT_EQ(chains.least_ends(), 1u);
}

TEST_P(ConcurrencyTest, MoreCallsThanAConnectionTakesWaitTheirTurn) {
  constexpr uint64_t kCalls = 2'000;
  Served served(GetParam(), {.threads = 1, .max_calls_per_connection = 7});
  // The server says what it takes when they meet; what comes before, beyond that, it refuses.
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  Chains chains(*served.stub, kCalls, 500);
  chains.Start();
  chains.Wait();
  EXPECT_EQ(chains.tally().right, kCalls);
  EXPECT_EQ(chains.most_ends(), 1u);
}

// ---------------------------------------------------------------- Connections come and go

TEST_P(ConcurrencyTest, ConnectionsComeAndGoWhileOthersWork) {
  Served served(GetParam());
  std::atomic<bool> stop{false};
  Tally tally;
  std::thread worker([&] {
    for (uint64_t id = 0; !stop; ++id) {
      const Message request = MessageOf(id, SizeOf(id));
      ++(Matches(request, served.stub->EchoInline(request)) ? tally.right : tally.wrong);
    }
  });
  for (int i = 0; i < 200; ++i) {
    std::atomic<int> ends{0};
    const std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    if (i % 3 == 0) continue;
    // Dropped while it connects, or when it is connected.
    stub.EchoExecutor(MessageOf(1, 100), {}, [&](const absl::StatusOr<Message>&) { ++ends; });
    if (i % 3 == 2) continue;
    EXPECT_TRUE(stub.EchoInline(MessageOf(2, 100)).ok());
  }
  stop = true;
  worker.join();
  EXPECT_EQ(tally.wrong, 0u);
}

TEST_P(ConcurrencyTest, NothingIsLeftBehind) {
  const auto use = [] {
    Served served(GetParam());
    EXPECT_TRUE(served.stub->EchoExecutor(Message()).ok());
    std::vector<std::unique_ptr<Channel>> channels;
    for (int i = 0; i < 10; ++i) {
      channels.push_back(served.NewChannel());
      EXPECT_TRUE(ConformanceStub(*channels.back()).EchoInline(Message()).ok());
    }
  };
  // Once for what is made once for all.
  use();
  const size_t descriptors = OpenDescriptors();
  const size_t threads = RunningThreads();
  for (int i = 0; i < 5; ++i) use();
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_EQ(RunningThreads(), threads);
}

TEST_P(ConcurrencyTest, ThreadsAreAsManyWhateverConnects) {
  const auto loops = transport::LoopGroup::Create({.threads = 2, .name = "clients"});
  ASSERT_TRUE(loops.ok());
  Served served(GetParam(), {.threads = 2}, {.loops = loops->get()});
  ASSERT_TRUE(served.stub->EchoExecutor(Message()).ok());
  const size_t threads = RunningThreads();
  const size_t descriptors = OpenDescriptors();
  {
    std::vector<std::unique_ptr<Channel>> channels;
    for (int i = 0; i < 100; ++i) {
      channels.push_back(served.NewChannel({.loops = loops->get()}));
      ASSERT_TRUE(ConformanceStub(*channels.back()).EchoExecutor(Message()).ok());
    }
    EXPECT_EQ(RunningThreads(), threads);
  }
  EXPECT_EQ(RunningThreads(), threads);
  EXPECT_TRUE(Eventually([&] { return OpenDescriptors() == descriptors; })) << OpenDescriptors();
}

}  // namespace
}  // namespace ferry::test::e2e
