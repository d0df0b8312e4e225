// Many calls at once, and what ends in the middle of them.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/check.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
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

// Mostly small, some of several frames.
size_t SizeOf(uint64_t id) { return id % 100 == 99 ? 150'000 : id % 10 == 9 ? 5'000 : id % 64; }

bool Matches(const Message& request, const absl::StatusOr<Message>& reply) {
  return reply.ok() && reply->id() == request.id() && reply->payload() == request.payload();
}

// Ways in which calls end, counted.
struct Tally {
  std::atomic<uint64_t> right{0};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> failed{0};
  uint64_t all() const { return right + wrong + failed; }
};

// Waits for a notification. Dies if it does not come: somebody holds a reference to what the caller would
// destroy.
void Await(absl::Notification& notification) {
  FERRY_CHECK(notification.WaitForNotificationWithTimeout(kLongTime), "what was waited for did not happen");
}

class ConcurrencyTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Transports, ConcurrencyTest, testing::Values("127.0.0.1:0", "unix", "in-process"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           const std::string name = info.param;
                           return std::string(name == "unix"         ? "Unix"
                                              : name == "in-process" ? "InProcess"
                                                                     : "Tcp");
                         });

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

// Chains keep a number of calls in flight, each starting the next inside its callback.
class Chains {
 public:
  // `calls` in all over `stub`, `count` at a time.
  Chains(ConformanceStub& stub, uint64_t calls, uint64_t count) : stub_(stub), calls_(calls), ended_(calls) {
    running_ = count;
  }

  void Start() {
    for (uint64_t i = running_; i > 0; --i) Next();
  }
  // Waits until every call has ended.
  void Wait() { Await(done_); }

  const Tally& tally() const { return tally_; }
  // How often the call that ended most or least often did.
  uint64_t most_ends() const { return *std::max_element(ended_.begin(), ended_.end()); }
  uint64_t least_ends() const { return *std::min_element(ended_.begin(), ended_.end()); }

 private:
  void Next() {
    const uint64_t id = next_.fetch_add(1);
    if (id >= calls_) {
      if (running_.fetch_sub(1) == 1) done_.Notify();
      return;
    }
    const StubMethod& method = kEchoes[id % 3];
    (stub_.*method.callback_fresh)(
        MessageOf(id, SizeOf(id)), {}, [this, id](const absl::StatusOr<Message>& reply) {
          ++ended_[id];
          if (!reply.ok()) {
            ++tally_.failed;
          } else {
            ++(Matches(MessageOf(id, SizeOf(id)), reply) ? tally_.right : tally_.wrong);
          }
          Next();
        });
  }

  ConformanceStub& stub_;
  const uint64_t calls_;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> running_;
  std::vector<std::atomic<uint64_t>> ended_;
  Tally tally_;
  absl::Notification done_;
};

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

// ---------------------------------------------------------------- Ends in the middle

// Starts `count` calls to methods that answer, and to one that does not.
void StartCalls(ConformanceStub& stub, uint64_t count, Tally& tally, absl::BlockingCounter& ended) {
  for (uint64_t id = 0; id < count; ++id) {
    const auto done = [&tally, &ended, id](absl::StatusOr<Message> reply) {
      if (!reply.ok()) {
        ++tally.failed;
      } else {
        ++(reply->id() == id ? tally.right : tally.wrong);
      }
      ended.DecrementCount();
    };
    const Message request = MessageOf(id, SizeOf(id));
    if (id % 4 == 3) {
      stub.Hold(request, {}, done);
    } else {
      (stub.*kEchoes[id % 4].callback_fresh)(request, {}, done);
    }
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedWithCallsInFlight) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  for (int round = 0; round < 5; ++round) {
    Tally tally;
    absl::BlockingCounter ended(kCalls);
    std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    StartCalls(stub, kCalls, tally, ended);
    channel.reset();
    // Every callback has returned.
    EXPECT_EQ(tally.all(), static_cast<uint64_t>(kCalls));
    EXPECT_EQ(tally.wrong, 0u);
    EXPECT_GE(tally.failed, static_cast<uint64_t>(kCalls / 4));
    ended.Wait();
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedInsideItsCallback) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  for (int round = 0; round < 5; ++round) {
    Tally tally;
    absl::BlockingCounter ended(kCalls);
    absl::Notification destroyed;
    std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    StartCalls(stub, kCalls, tally, ended);
    stub.EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
      channel.reset();
      destroyed.Notify();
    });
    Await(destroyed);
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; }));
    EXPECT_EQ(tally.wrong, 0u);
    ended.Wait();
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedInsideACallbackOfAnother) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  Tally tally;
  absl::BlockingCounter ended(kCalls);
  absl::Notification destroyed;
  std::unique_ptr<Channel> channel = served.NewChannel();
  ConformanceStub stub(*channel);
  StartCalls(stub, kCalls, tally, ended);
  served.stub->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
    channel.reset();
    destroyed.Notify();
  });
  Await(destroyed);
  EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; }));
  EXPECT_EQ(tally.wrong, 0u);
  ended.Wait();
}

TEST_P(ConcurrencyTest, ChainedCallsEndWithTheirChannel) {
  // Callbacks go on starting calls while, and after, the channel ends those it has.
  constexpr uint64_t kCalls = 5'000;
  Served served(GetParam());
  std::unique_ptr<Channel> channel = served.NewChannel();
  ConformanceStub stub(*channel);
  Chains chains(stub, kCalls, 64);
  chains.Start();
  ASSERT_TRUE(Eventually([&] { return chains.tally().right > 100; }));
  channel.reset();
  EXPECT_EQ(chains.tally().all(), kCalls);
  EXPECT_EQ(chains.tally().wrong, 0u);
  EXPECT_EQ(chains.most_ends(), 1u);
}

TEST_P(ConcurrencyTest, AServerMayBeDestroyedWithCallsInFlight) {
  constexpr int kCalls = 1'000;
  if (std::string(GetParam()) == "in-process") GTEST_SKIP() << "the server must outlive the channel";
  for (int round = 0; round < 5; ++round) {
    Served served(GetParam());
    Tally tally;
    absl::BlockingCounter ended(kCalls);
    ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
    StartCalls(*served.stub, kCalls, tally, ended);
    ASSERT_TRUE(served.service.WaitForHeld(1));
    served.server.reset();
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; })) << tally.all();
    EXPECT_EQ(tally.wrong, 0u);
    ended.Wait();
    // Call objects are finished after the server is gone.
    HeldCall held = served.service.TakeHeld();
    EXPECT_TRUE(held.context().cancelled());
    std::move(held).Finish(absl::OkStatus());
  }
}

TEST_P(ConcurrencyTest, CallsMayBeFinishedWhileTheirServerIsDestroyed) {
  constexpr int kCalls = 200;
  if (std::string(GetParam()) == "in-process") GTEST_SKIP() << "the server must outlive the channel";
  for (int round = 0; round < 10; ++round) {
    Served served(GetParam());
    Tally tally;
    absl::BlockingCounter ended(kCalls);
    for (int i = 0; i < kCalls; ++i) {
      served.stub->Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
        ++(reply.ok() ? tally.right : tally.failed);
        ended.DecrementCount();
      });
    }
    ASSERT_TRUE(served.service.WaitForHeld(kCalls));
    std::thread finisher([&] {
      for (int i = 0; i < kCalls; ++i) served.service.TakeHeld().Finish(absl::OkStatus());
    });
    served.server.reset();
    finisher.join();
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; })) << tally.all();
    ended.Wait();
  }
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
