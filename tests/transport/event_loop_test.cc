// What an event loop runs, and when.
#include "ferry/transport/event_loop.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"
#include "tests/transport/event_loop_fixture.h"

namespace ferry::transport {
namespace {

using test::NewLoop;
using test::RunIn;

class EventLoopTest : public ::testing::Test {
 protected:
  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_ = NewLoop({.clock = &clock_});
  std::vector<std::string> log_;

  void Log(std::string line) { log_.push_back(std::move(line)); }
};

using Lines = std::vector<std::string>;

TEST_F(EventLoopTest, RunsTasksInTheOrderTheyWerePosted) {
  for (const char* name : {"a", "b", "c"}) loop_->Post([this, name] { Log(name); });
  loop_->RunUntilIdle();
  EXPECT_EQ(log_, (Lines{"a", "b", "c"}));
}

TEST_F(EventLoopTest, RunsTasksPostedByTasksAfterThoseThatWereThere) {
  loop_->Post([this] {
    Log("a");
    loop_->Post([this] { Log("c"); });
  });
  loop_->Post([this] { Log("b"); });
  loop_->RunUntilIdle();
  EXPECT_EQ(log_, (Lines{"a", "b", "c"}));
}

TEST_F(EventLoopTest, DestroysATaskBeforeTheNextRuns) {
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> seen = held;
  loop_->Post([held = std::move(held)] {});
  loop_->Post([&] { EXPECT_TRUE(seen.expired()); });
  loop_->RunUntilIdle();
}

TEST_F(EventLoopTest, DestroysQueuedTasksOnTheLoopWithoutRunningThem) {
  struct Bystander {
    explicit Bystander(EventLoop* loop) : loop(loop) {}
    ~Bystander() { EXPECT_TRUE(loop->InLoop()); }
    EventLoop* loop;
  };
  auto held = std::make_shared<Bystander>(loop_.get());
  const std::weak_ptr<Bystander> seen = held;
  loop_->Post([held = std::move(held)] { FAIL(); });
  loop_.reset();
  EXPECT_TRUE(seen.expired());
}

TEST_F(EventLoopTest, KnowsItsThread) {
  EXPECT_FALSE(loop_->InLoop());
  EXPECT_FALSE(EventLoop::InAnyLoop());
  const std::unique_ptr<EventLoop> other = NewLoop();
  RunIn(*loop_, [&] {
    EXPECT_TRUE(loop_->InLoop());
    EXPECT_FALSE(other->InLoop());
    EXPECT_TRUE(EventLoop::InAnyLoop());
  });
  EXPECT_FALSE(EventLoop::InAnyLoop());
}

TEST_F(EventLoopTest, DiesWhenUsedOnAnotherThread) {
  EXPECT_DEATH(loop_->AssertInLoop(), "belongs to another thread's event loop");
}

TEST_F(EventLoopTest, RunsTimersThatAreDue) {
  Timer timer([this] { Log("due"); });
  RunIn(*loop_, [&] { loop_->timers().Arm(timer, loop_->now() + absl::Milliseconds(5)); });
  EXPECT_TRUE(log_.empty());
  clock_.Advance(absl::Milliseconds(5));
  loop_->RunUntilIdle();
  EXPECT_EQ(log_, Lines{"due"});
}

TEST_F(EventLoopTest, TimeStandsStillDuringABatch) {
  RunIn(*loop_, [&] {
    const Instant start = loop_->now();
    clock_.Advance(absl::Seconds(1));
    EXPECT_EQ(loop_->now(), start);
  });
  RunIn(*loop_, [&] { EXPECT_EQ(loop_->now(), clock_.Now()); });
}

TEST_F(EventLoopTest, TellsHandlersOfEvents) {
  const WakeUp wake_up = *WakeUp::Create();
  FunctionHandler handler([this](uint32_t events) { Log(events & EPOLLIN ? "in" : "other"); });
  RunIn(*loop_, [&] { ASSERT_TRUE(loop_->Watch(wake_up.fd(), EPOLLIN | EPOLLET, handler).ok()); });
  EXPECT_TRUE(log_.empty());
  wake_up.Signal();
  loop_->RunUntilIdle();
  EXPECT_EQ(log_, Lines{"in"});
  RunIn(*loop_, [&] { loop_->Unwatch(wake_up.fd(), handler); });
  wake_up.Signal();
  loop_->RunUntilIdle();
  EXPECT_EQ(log_.size(), 1u);
}

TEST_F(EventLoopTest, AHandlerMayDestroyAnotherThatIsReadyInTheSameBatch) {
  const WakeUp wake_ups[] = {*WakeUp::Create(), *WakeUp::Create()};
  std::optional<FunctionHandler> handlers[2];
  for (int i : {0, 1}) {
    handlers[i].emplace([&, i](uint32_t) {
      Log("told");
      loop_->Unwatch(wake_ups[1 - i].fd(), *handlers[1 - i]);
      handlers[1 - i].reset();
    });
  }
  RunIn(*loop_, [&] {
    for (int i : {0, 1}) ASSERT_TRUE(loop_->Watch(wake_ups[i].fd(), EPOLLIN | EPOLLET, *handlers[i]).ok());
    for (int i : {0, 1}) wake_ups[i].Signal();
  });
  EXPECT_EQ(log_.size(), 1u);
}

TEST_F(EventLoopTest, AHandlerMayDestroyItself) {
  const WakeUp wake_up = *WakeUp::Create();
  std::optional<FunctionHandler> handler;
  handler.emplace([&](uint32_t) {
    loop_->Unwatch(wake_up.fd(), *handler);
    handler.reset();
  });
  RunIn(*loop_, [&] { ASSERT_TRUE(loop_->Watch(wake_up.fd(), EPOLLIN, *handler).ok()); });
  wake_up.Signal();
  loop_->RunUntilIdle();
  EXPECT_FALSE(handler.has_value());
}

TEST_F(EventLoopTest, RunsHooksOnceAtTheEndOfTheBatch) {
  FunctionHook hook([this] { Log("end"); });
  loop_->Post([&] {
    loop_->AddBatchHook(hook);
    loop_->AddBatchHook(hook);
    Log("first");
  });
  loop_->Post([this] { Log("second"); });
  loop_->RunUntilIdle();
  EXPECT_EQ(log_, (Lines{"first", "second", "end"}));
}

TEST_F(EventLoopTest, RunsHooksAddedByHooksInTheSameBatch) {
  FunctionHook inner([this] { Log("inner"); });
  FunctionHook outer([&] {
    loop_->Post([this] { Log("next batch"); });
    loop_->AddBatchHook(inner);
  });
  RunIn(*loop_, [&] { loop_->AddBatchHook(outer); });
  EXPECT_EQ(log_, (Lines{"inner", "next batch"}));
}

TEST_F(EventLoopTest, DoesNotRunARemovedHook) {
  FunctionHook removed([] { FAIL(); });
  FunctionHook remover([&] { loop_->RemoveBatchHook(removed); });
  RunIn(*loop_, [&] {
    loop_->AddBatchHook(removed);
    loop_->RemoveBatchHook(removed);
    loop_->AddBatchHook(remover);
    loop_->AddBatchHook(removed);
    loop_->RemoveBatchHook(removed);
    loop_->RemoveBatchHook(removed);
  });
}

TEST_F(EventLoopTest, AHookMayBeAddedAgainInALaterBatch) {
  FunctionHook hook([this] { Log("end"); });
  for (int i = 0; i < 2; ++i) RunIn(*loop_, [&] { loop_->AddBatchHook(hook); });
  EXPECT_EQ(log_.size(), 2u);
}

TEST_F(EventLoopTest, KeepsBlocksDroppedOnItsThread) {
  if (!BufferPool::kKeepsBlocks) GTEST_SKIP() << "nothing is kept under AddressSanitizer";
  RunIn(*loop_, [&] {
    const char* data = loop_->blocks().Allocate(1).data();
    EXPECT_EQ(loop_->blocks().Allocate(1).data(), data);
  });
  EXPECT_EQ(loop_->blocks().pool().stats().heap_allocations, 1u);
}

TEST_F(EventLoopTest, GivesBlocksBackThatNobodyUsesForAWhile) {
  if (!BufferPool::kKeepsBlocks) GTEST_SKIP() << "nothing is kept under AddressSanitizer";
  RunIn(*loop_, [&] { loop_->blocks().Allocate(BufferPool::kMinBlock); });
  const BufferPool& pool = loop_->blocks().pool();
  loop_->RunUntilIdle();
  EXPECT_GT(pool.stats().kept_bytes, 0);
  // The first time has them leave the loop's cache, where they have no age.
  for (int i = 0; i < 2; ++i) {
    clock_.Advance(pool.max_age());
    loop_->RunUntilIdle();
  }
  EXPECT_EQ(pool.stats().kept_bytes, 0);
  EXPECT_EQ(loop_->timers().next_due(), Instant::Infinite());
}

TEST_F(EventLoopTest, LendsScratchMemory) {
  RunIn(*loop_, [&] {
    ASSERT_EQ(loop_->scratch().size(), EventLoop::kScratchBytes);
    loop_->scratch().back() = 'x';
  });
}

TEST_F(EventLoopTest, AStopBeforeRunEndsIt) {
  loop_->Stop();
  loop_->Run();
}

TEST_F(EventLoopTest, StopEndsRunAfterTheBatch) {
  loop_->Post([this] {
    loop_->Stop();
    Log("stopped");
  });
  loop_->Post([this] { Log("same batch"); });
  loop_->Run();
  EXPECT_EQ(log_, (Lines{"stopped", "same batch"}));
}

// A loop that sleeps, on a thread of its own.
class SleepingLoopTest : public ::testing::Test {
 protected:
  ~SleepingLoopTest() override {
    loop_->Stop();
    thread_.join();
  }

  std::unique_ptr<EventLoop> loop_ = NewLoop();
  std::thread thread_{[this] { loop_->Run(); }};
};

TEST_F(SleepingLoopTest, WakesForEveryTask) {
  for (int i = 0; i < 1000; ++i) {
    absl::Notification done;
    loop_->Post([&] { done.Notify(); });
    done.WaitForNotification();
  }
}

TEST_F(SleepingLoopTest, WakesForTimers) {
  for (const absl::Duration delay : {absl::Microseconds(50), absl::Milliseconds(2)}) {
    absl::Notification done;
    Timer timer([&] { done.Notify(); });
    const Instant start = Clock::Real().Now();
    loop_->Post([&] { loop_->timers().Arm(timer, start + delay); });
    done.WaitForNotification();
    EXPECT_GE(Clock::Real().Now() - start, delay);
    absl::Notification gone;
    loop_->Post([&] { gone.Notify(); });  // the timer's callback has returned by then
    gone.WaitForNotification();
  }
}

TEST_F(SleepingLoopTest, LosesNoTaskOfManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 5000;
  int ran = 0;  // belongs to the loop
  absl::Notification done;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int task = 0; task < kTasks; ++task) {
        loop_->Post([&] {
          if (++ran == kThreads * kTasks) done.Notify();
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done.WaitForNotification();
}

}  // namespace
}  // namespace ferry::transport
