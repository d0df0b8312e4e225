#include "ferry/transport/event_loop.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"

namespace ferry::transport {
namespace {

using test::NewLoop;
using test::RunIn;

// Calls a function for each event.
class FunctionHandler final : public EventLoop::Handler {
 public:
  explicit FunctionHandler(std::function<void(uint32_t)> f) : f_(std::move(f)) {}
  void OnEvents(uint32_t events) override { f_(events); }

 private:
  std::function<void(uint32_t)> f_;
};

// Calls a function at the end of the batch.
class FunctionHook final : public EventLoop::BatchHook {
 public:
  explicit FunctionHook(std::function<void()> f) : f_(std::move(f)) {}
  void OnEndOfBatch() override { f_(); }

 private:
  std::function<void()> f_;
};

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

// ---------------------------------------------------------------- Polling

// A handler that the loop may ask, and that counts how often it is told and asked.
class PollableHandler final : public EventLoop::Handler {
 public:
  // `poll` says whether there was something to do.
  explicit PollableHandler(std::function<bool()> poll) : poll_(std::move(poll)) {}
  void OnEvents(uint32_t) override {
    ++told;
    if (on_told) on_told();
  }
  bool OnPoll() override {
    ++asked;
    return poll_();
  }
  bool pollable() const override { return may_be_asked; }

  std::function<void()> on_told;
  bool may_be_asked = true;
  int told = 0;
  int asked = 0;

 private:
  std::function<bool()> poll_;
};

// A clock that goes on by ten microseconds each time that it is asked.
class TickingClock final : public Clock {
 public:
  Instant Now() const override { return {10'000 * ++ticks_}; }

 private:
  mutable std::atomic<int64_t> ticks_{0};
};

class PollingTest : public ::testing::Test {
 protected:
  // Makes `handler` the one that was busy, and then runs the loop until it is stopped.
  void RunWithHot(EventLoop& loop, PollableHandler& handler) {
    loop.Post([&] {
      ASSERT_TRUE(loop.Watch(wake_up_.fd(), EPOLLIN | EPOLLET, handler).ok());
      wake_up_.Signal();
    });
    loop.Run();
    RunIn(loop, [&] { loop.Unwatch(wake_up_.fd(), handler); });
  }

  const WakeUp wake_up_ = *WakeUp::Create();
};

TEST_F(PollingTest, AsksTheHandlerThatWasBusyInsteadOfWaiting) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Microseconds(50)});
  PollableHandler handler([&] {
    if (handler.asked == 100) loop->Stop();
    return true;
  });
  RunWithHot(*loop, handler);
  EXPECT_EQ(handler.told, 1);
  EXPECT_GE(handler.asked, 100);
}

TEST_F(PollingTest, WaitsForEventsOfAHandlerThatMayNotBeAskedJustNow) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Microseconds(50)});
  PollableHandler handler([&] {
    if (handler.asked == 10) {
      handler.may_be_asked = false;
      wake_up_.Signal();
    }
    return true;
  });
  handler.on_told = [&] {
    if (handler.told == 2) loop->Stop();
  };
  RunWithHot(*loop, handler);
  EXPECT_EQ(handler.told, 2);
  EXPECT_EQ(handler.asked, 10);
}

TEST_F(PollingTest, WaitsForEventsOnceALookTookLong) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Seconds(1)});
  PollableHandler handler([&] {
    clock.Advance(absl::Milliseconds(1));
    wake_up_.Signal();
    return false;
  });
  handler.on_told = [&] {
    if (handler.told == 2) wake_up_.Signal();
    if (handler.told == 3) loop->Stop();
  };
  RunWithHot(*loop, handler);
  EXPECT_EQ(handler.told, 3);
  EXPECT_EQ(handler.asked, 1);
}

TEST_F(PollingTest, AsksNobodyIfItIsTurnedOff) {
  const std::unique_ptr<EventLoop> loop = NewLoop();
  PollableHandler handler([] { return true; });
  Timer stop([&] { loop->Stop(); });
  RunIn(*loop, [&] { loop->timers().Arm(stop, loop->now() + absl::Milliseconds(1)); });
  RunWithHot(*loop, handler);
  EXPECT_EQ(handler.told, 1);
  EXPECT_EQ(handler.asked, 0);
}

TEST_F(PollingTest, ABusyHandlerDoesNotKeepItFromOthers) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Microseconds(50)});
  const WakeUp other = *WakeUp::Create();
  int timers = 0;
  int tasks = 0;
  FunctionHandler stops([&](uint32_t) {
    EXPECT_EQ(timers, 1);
    EXPECT_EQ(tasks, 1);
    loop->Stop();
  });
  Timer timer([&] { ++timers; });
  PollableHandler handler([&] {
    if (handler.asked == 10) {
      loop->timers().Arm(timer, loop->now());
      loop->Post([&] { ++tasks; });
    }
    if (handler.asked == 20) other.Signal();
    return true;
  });
  RunIn(*loop, [&] { ASSERT_TRUE(loop->Watch(other.fd(), EPOLLIN | EPOLLET, stops).ok()); });
  RunWithHot(*loop, handler);
  EXPECT_LE(handler.asked, 40);
  RunIn(*loop, [&] { loop->Unwatch(other.fd(), stops); });
}

TEST_F(PollingTest, AnIdleLoopPollsNextToNever) {
  TickingClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Microseconds(50)});
  constexpr int kBatches = 1000;
  int batches = 0;
  PollableHandler handler([] { return false; });
  // Something else that keeps it going, with nothing to be found in between.
  Timer timer([&] {
    if (++batches == kBatches) return loop->Stop();
    loop->timers().Arm(timer, loop->now() + absl::Microseconds(30));
  });
  RunIn(*loop, [&] { loop->timers().Arm(timer, loop->now()); });
  RunWithHot(*loop, handler);
  EXPECT_EQ(batches, kBatches);
  EXPECT_GT(handler.asked, 0);
  EXPECT_LE(handler.asked, kBatches / 5);
}

TEST_F(PollingTest, EndsThoughTheClockStandsStill) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Hours(1)});
  std::thread thread([&] { loop->Run(); });
  for (int i = 0; i < 100; ++i) {
    absl::Notification done;
    loop->Post([&] { done.Notify(); });
    done.WaitForNotification();
  }
  loop->Stop();
  thread.join();
}

TEST_F(PollingTest, AHandlerMayDestroyItselfWhenAsked) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock, .poll_time = absl::Microseconds(50)});
  std::optional<PollableHandler> handler;
  handler.emplace([&] {
    loop->Unwatch(wake_up_.fd(), *handler);
    loop->Post([&] { loop->Stop(); });
    handler.reset();
    return true;
  });
  loop->Post([&] {
    ASSERT_TRUE(loop->Watch(wake_up_.fd(), EPOLLIN | EPOLLET, *handler).ok());
    wake_up_.Signal();
  });
  loop->Run();
  EXPECT_FALSE(handler.has_value());
}

// ---------------------------------------------------------------- Guests

using Guest = EventLoop::Guest;

// A loop with a thread of its own that lends it out when it is asked to.
class GuestTest : public ::testing::Test {
 protected:
  ~GuestTest() override {
    loop_->Stop();
    if (thread_.joinable()) thread_.join();
  }

  // Runs `task` on the loop and waits for it. Not for a guest.
  void Await(std::function<void()> task) {
    absl::Notification done;
    loop_->Post([&] {
      task();
      done.Notify();
    });
    done.WaitForNotification();
  }

  // Has the loop lend itself until this thread is its guest.
  std::unique_ptr<Guest> Enter() {
    for (;;) {
      Await([this] { loop_->RequestLoan(); });
      for (int tries = 0; tries < 10'000; ++tries) {
        auto guest = std::make_unique<Guest>(*loop_);
        if (guest->entered()) return guest;
        std::this_thread::yield();
      }
    }
  }

  // Tells `seen` on which thread it was called.
  std::function<void()> Tell(std::promise<std::thread::id>& seen) {
    return [&seen] { seen.set_value(std::this_thread::get_id()); };
  }

  // A descriptor of which the loop tells `seen` on which thread it was noticed.
  void Watch(std::promise<std::thread::id>& seen) {
    handler_.emplace([this, &seen](uint32_t) {
      loop_->Unwatch(wake_up_.fd(), *handler_);
      seen.set_value(std::this_thread::get_id());
    });
    Await([this] { ASSERT_TRUE(loop_->Watch(wake_up_.fd(), EPOLLIN | EPOLLET, *handler_).ok()); });
  }

  const WakeUp wake_up_ = *WakeUp::Create();
  std::optional<FunctionHandler> handler_;
  std::unique_ptr<EventLoop> loop_ = NewLoop();
  std::thread thread_{[this] { loop_->Run(); }};
  const std::thread::id own_ = thread_.get_id();
  const std::thread::id this_ = std::this_thread::get_id();
};

TEST_F(GuestTest, IsNotLetInUnlessTheLoopIsLentOut) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Guest(*loop_).entered());
    EXPECT_FALSE(loop_->InLoop());
    Await([] {});
  }
}

TEST_F(GuestTest, IsNotLetInWhileAnotherIsThere) {
  const std::unique_ptr<Guest> guest = Enter();
  std::thread([this] { EXPECT_FALSE(Guest(*loop_).entered()); }).join();
}

TEST_F(GuestTest, RunsTheLoopOnItsThread) {
  const std::unique_ptr<Guest> guest = Enter();
  EXPECT_TRUE(loop_->InLoop());
  EXPECT_TRUE(EventLoop::InAnyLoop());
  EXPECT_TRUE(loop_->run_by_guest());
  int tasks = 0;
  FunctionHook hook([&] { EXPECT_EQ(std::exchange(tasks, 2), 1); });
  FunctionHandler handler([&](uint32_t) {
    EXPECT_EQ(std::this_thread::get_id(), this_);
    EXPECT_EQ(std::exchange(tasks, 3), 2);
  });
  ASSERT_TRUE(loop_->Watch(wake_up_.fd(), EPOLLIN | EPOLLET, handler).ok());
  Timer timer([&] {
    EXPECT_EQ(std::this_thread::get_id(), this_);
    EXPECT_EQ(std::exchange(tasks, 4), 3);
  });
  std::thread other([&] {
    loop_->Post([&] {
      EXPECT_EQ(std::this_thread::get_id(), this_);
      EXPECT_TRUE(loop_->run_by_guest());
      EXPECT_EQ(std::exchange(tasks, 1), 0);
      loop_->AddBatchHook(hook);
    });
  });
  EXPECT_TRUE(guest->RunUntil([&] { return tasks == 2; }));
  other.join();
  std::thread signals([&] { wake_up_.Signal(); });
  EXPECT_TRUE(guest->RunUntil([&] { return tasks == 3; }));
  signals.join();
  loop_->timers().Arm(timer, loop_->now() + absl::Microseconds(200));
  EXPECT_TRUE(guest->RunUntil([&] { return tasks == 4; }));
  loop_->Unwatch(wake_up_.fd(), handler);
}

TEST_F(GuestTest, RunsTheHooksThatWereAddedBeforeItWaits) {
  const std::unique_ptr<Guest> guest = Enter();
  bool ran = false;
  FunctionHook hook([&] { ran = true; });
  loop_->AddBatchHook(hook);
  EXPECT_TRUE(guest->RunUntil([&] { return ran; }));
}

TEST_F(GuestTest, RunsNothingIfWhatItWaitsForIsThere) {
  std::unique_ptr<Guest> guest = Enter();
  bool ran = false;
  std::thread([&] { loop_->Post([&] { ran = true; }); }).join();
  EXPECT_TRUE(guest->RunUntil([] { return true; }));
  EXPECT_FALSE(ran);
  // The loop's own thread runs it once the guest is gone.
  guest.reset();
  Await([&] { EXPECT_TRUE(ran); });
}

TEST_F(GuestTest, IsWokenByEveryTask) {
  std::unique_ptr<Guest> guest = Enter();
  int ran = 0;
  std::atomic<int> seen{0};
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) {
      loop_->Post([&] { seen.store(++ran); });
      // It may be asleep by then.
      while (seen.load() <= i) std::this_thread::yield();
    }
  });
  EXPECT_TRUE(guest->RunUntil([&] { return ran == 1000; }));
  other.join();
}

TEST_F(GuestTest, LeavesTheLoopToTheNext) {
  // The loop's own thread takes it back at times, when this one is not scheduled.
  int in_turn = 0;
  while (in_turn < 10) {
    Enter().reset();
    EXPECT_FALSE(loop_->InLoop());
    std::thread([&] { in_turn += Guest(*loop_).entered(); }).join();
  }
}

TEST_F(GuestTest, IsFollowedByTheOwnThreadWhenSomethingIsPosted) {
  for (int i = 0; i < 100; ++i) {
    Enter().reset();
    std::promise<std::thread::id> seen;
    loop_->Post(Tell(seen));
    EXPECT_EQ(seen.get_future().get(), own_);
  }
}

TEST_F(GuestTest, IsFollowedByTheOwnThreadIfSomethingWasPostedMeanwhile) {
  for (int i = 0; i < 100; ++i) {
    std::unique_ptr<Guest> guest = Enter();
    std::promise<std::thread::id> seen;
    loop_->Post(Tell(seen));
    guest.reset();
    EXPECT_EQ(seen.get_future().get(), own_);
  }
}

TEST_F(GuestTest, IsFollowedByTheOwnThreadWhenNoneComesAnyMore) {
  std::promise<std::thread::id> seen;
  Watch(seen);
  Enter().reset();
  wake_up_.Signal();
  EXPECT_EQ(seen.get_future().get(), own_);
}

TEST_F(GuestTest, IsFollowedByTheOwnThreadWhenTheLoopMustRun) {
  std::promise<std::thread::id> seen;
  Watch(seen);
  Enter().reset();
  wake_up_.Signal();
  loop_->EnsureRun();
  EXPECT_EQ(seen.get_future().get(), own_);
  loop_->EnsureRun();
  Await([] {});
}

// Who comes while a guest is there tells nobody that the loop must run: the guest looks after it has let go.
TEST_F(GuestTest, IsFollowedByTheOwnThreadIfItFindsThatTheLoopIsWanted) {
  std::promise<std::thread::id> seen;
  Watch(seen);
  std::unique_ptr<Guest> guest = Enter();
  wake_up_.Signal();
  bool asked = false;
  guest->Leave([&] {
    asked = true;
    EXPECT_FALSE(loop_->InLoop());
    return true;
  });
  EXPECT_TRUE(asked);
  EXPECT_FALSE(guest->entered());
  EXPECT_EQ(seen.get_future().get(), own_);
}

TEST_F(GuestTest, IsFollowedByTheOwnThreadWhenATimerIsDue) {
  std::promise<std::thread::id> seen;
  Timer timer(Tell(seen));
  std::unique_ptr<Guest> guest = Enter();
  loop_->timers().Arm(timer, loop_->now() + absl::Microseconds(500));
  guest.reset();
  EXPECT_EQ(seen.get_future().get(), own_);
}

// The machine's clock; counts how often one thread looks at it.
class CountingClock final : public Clock {
 public:
  Instant Now() const override {
    if (std::this_thread::get_id() == thread_.load()) ++looks_;
    return Clock::Real().Now();
  }
  void Count(std::thread::id thread) { thread_ = thread; }
  int looks() const { return looks_; }

 private:
  std::atomic<std::thread::id> thread_;
  mutable std::atomic<int> looks_{0};
};

TEST_F(GuestTest, LetsTheOwnThreadSleepHoweverLongItWaits) {
  CountingClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock});
  std::thread thread([&] { loop->Run(); });
  std::unique_ptr<Guest> guest;
  while (guest == nullptr || !guest->entered()) {
    guest.reset();
    loop->Post([&] { loop->RequestLoan(); });
    std::this_thread::yield();
    guest = std::make_unique<Guest>(*loop);
  }
  clock.Count(thread.get_id());
  bool waited = false;
  Timer timer([&] { waited = true; });
  // Longer than any loan.
  loop->timers().Arm(timer, loop->now() + 3 * EventLoop::kLongLoanTime);
  EXPECT_TRUE(guest->RunUntil([&] { return waited; }));
  // It looks after the guest now and then; one that kept looking would have come to thousands.
  EXPECT_LE(clock.looks(), 100);
  guest.reset();
  loop->Stop();
  thread.join();
}

TEST_F(GuestTest, ALoanOfAManualClocksLoopEndsToo) {
  ManualClock clock;
  const std::unique_ptr<EventLoop> loop = NewLoop({.clock = &clock});
  std::thread thread([&] { loop->Run(); });
  absl::Notification noticed;
  FunctionHandler handler([&](uint32_t) { noticed.Notify(); });
  absl::Notification lent;
  loop->Post([&] {
    ASSERT_TRUE(loop->Watch(wake_up_.fd(), EPOLLIN | EPOLLET, handler).ok());
    loop->RequestLoan();
    lent.Notify();
  });
  lent.WaitForNotification();
  wake_up_.Signal();
  noticed.WaitForNotification();
  loop->Stop();
  thread.join();
  RunIn(*loop, [&] { loop->Unwatch(wake_up_.fd(), handler); });
}

TEST_F(GuestTest, HandsTheLoopBackForTheOwnersTasks) {
  for (const bool posted_before : {true, false}) {
    SCOPED_TRACE(posted_before);
    std::unique_ptr<Guest> guest = Enter();
    std::promise<std::thread::id> seen;
    std::thread other;
    if (posted_before) {
      loop_->PostToOwner(Tell(seen));
    } else {
      other = std::thread([&] { loop_->PostToOwner(Tell(seen)); });
    }
    EXPECT_FALSE(guest->RunUntil([] { return false; }));
    guest->HandBack();
    EXPECT_FALSE(guest->entered());
    EXPECT_FALSE(loop_->InLoop());
    EXPECT_EQ(seen.get_future().get(), own_);
    if (other.joinable()) other.join();
  }
}

TEST_F(GuestTest, LeavesTheOwnersTasksToTheOwnThreadThoughItIsDone) {
  std::unique_ptr<Guest> guest = Enter();
  std::promise<std::thread::id> seen;
  bool done = false;
  // Runs before the tasks of its batch.
  Timer timer([&] {
    loop_->PostToOwner(Tell(seen));
    done = true;
  });
  loop_->timers().Arm(timer, loop_->now());
  EXPECT_TRUE(guest->RunUntil([&] { return done; }));
  guest.reset();
  EXPECT_EQ(seen.get_future().get(), own_);
}

TEST_F(GuestTest, OwnersTasksRunOnTheOwnThreadWithoutGuestsToo) {
  std::promise<std::thread::id> seen;
  loop_->PostToOwner(Tell(seen));
  EXPECT_EQ(seen.get_future().get(), own_);
  Enter().reset();
  std::promise<std::thread::id> seen_again;
  loop_->PostToOwner(Tell(seen_again));
  EXPECT_EQ(seen_again.get_future().get(), own_);
}

TEST_F(GuestTest, DoesNotKeepALoopThatIsLentOutFromStopping) {
  Enter().reset();
  loop_->Stop();
  thread_.join();
  loop_.reset();
  loop_ = NewLoop();
}

TEST_F(GuestTest, IsWaitedForByAStoppedLoop) {
  std::unique_ptr<Guest> guest = Enter();
  loop_->Stop();
  bool ran = false;
  loop_->Post([&] { ran = true; });
  EXPECT_TRUE(guest->RunUntil([&] { return ran; }));
  guest.reset();
  thread_.join();
  EXPECT_FALSE(Guest(*loop_).entered());
}

TEST_F(GuestTest, IsAwaitedAsAVisitor) {
  for (int i = 0; i < 100; ++i) {
    absl::Notification entered;
    std::atomic<bool> left{false};
    std::thread other([&] {
      std::unique_ptr<Guest> guest = Enter();
      entered.Notify();
      std::this_thread::yield();
      left.store(true);
      if (i % 2 == 0) guest->HandBack();
    });
    entered.WaitForNotification();
    loop_->AwaitVisitors();
    EXPECT_TRUE(left.load());
    other.join();
  }
}

TEST_F(GuestTest, NothingIsLostAndNobodyIsInTheLoopAtOnceWhateverComes) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 2000;
  // Belong to the loop.
  int ran = 0;
  int visits = 0;
  std::atomic<int> owners_ran{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        std::atomic<bool> done{false};
        const auto task = [&] {
          ++ran;
          if (round % 3 == 0) loop_->RequestLoan();
          done.store(true);
        };
        Guest guest(*loop_);
        loop_->Post(task);
        if (round % 7 == i) {
          loop_->PostToOwner([&] {
            EXPECT_EQ(std::this_thread::get_id(), own_);
            ++owners_ran;
          });
        }
        if (guest.entered()) {
          ++visits;
          if (!guest.RunUntil([&] { return done.load(); })) guest.HandBack();
        }
        while (!done.load()) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int owners = 0;
  for (int i = 0; i < kThreads; ++i) {
    for (int round = 0; round < kRounds; ++round) owners += round % 7 == i;
  }
  Await([&] { EXPECT_EQ(ran, kThreads * kRounds); });
  while (owners_ran.load() < owners) std::this_thread::yield();
  RecordProperty("visits", visits);
}

}  // namespace
}  // namespace ferry::transport
