#include "ferry/rpc/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/rpc/executor.h"
#include "ferry/transport/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/countdown.h"

namespace ferry {
namespace {

class FunctionTask final : public Executor::Task {
 public:
  explicit FunctionTask(std::function<void()> run) : run_(std::move(run)) {}
  void Run() override { run_(); }

 private:
  const std::function<void()> run_;
};

TEST(ThreadPoolTest, RunsTasksInTheOrderTheyCame) {
  std::vector<int> order;
  std::vector<std::unique_ptr<FunctionTask>> tasks;
  std::vector<Executor::Task*> pointers;
  for (int i = 0; i < 100; ++i) {
    tasks.push_back(std::make_unique<FunctionTask>([&order, i] { order.push_back(i); }));
    pointers.push_back(tasks.back().get());
  }
  {
    ThreadPool pool({.threads = 1});
    EXPECT_EQ(pool.Submit(pointers), 100u);
  }
  ASSERT_THAT(order, testing::SizeIs(100));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(ThreadPoolTest, TakesTheFirstTasksUpToItsCapacity) {
  absl::Notification running;
  absl::Notification go;
  absl::Mutex mutex;
  std::vector<int> ran;
  FunctionTask first([&] {
    running.Notify();
    go.WaitForNotification();
  });
  std::vector<std::unique_ptr<FunctionTask>> tasks;
  std::vector<Executor::Task*> pointers;
  for (int i = 0; i < 5; ++i) {
    tasks.push_back(std::make_unique<FunctionTask>([&, i] {
      absl::MutexLock lock(&mutex);
      ran.push_back(i);
    }));
    pointers.push_back(tasks.back().get());
  }
  {
    ThreadPool pool({.threads = 1, .capacity = 3});
    EXPECT_EQ(pool.capacity(), 3u);
    Executor::Task* blocker = &first;
    EXPECT_EQ(pool.Submit({&blocker, 1}), 1u);
    running.WaitForNotification();
    EXPECT_EQ(pool.Submit(pointers), 3u);
    EXPECT_EQ(pool.Submit({pointers.data() + 3, 2}), 0u);
    go.Notify();
  }
  EXPECT_THAT(ran, testing::ElementsAre(0, 1, 2));
}

TEST(ThreadPoolTest, RunsAsManyTasksAtOnceAsItHasThreads) {
  constexpr int kThreads = 4;
  absl::Mutex mutex;
  int inside = 0;
  const auto meet = [&] {
    absl::MutexLock lock(&mutex);
    ++inside;
    const auto all = [&inside] { return inside == kThreads; };
    mutex.Await(absl::Condition(&all));
  };
  std::vector<std::unique_ptr<FunctionTask>> tasks;
  std::vector<Executor::Task*> pointers;
  for (int i = 0; i < kThreads; ++i) {
    tasks.push_back(std::make_unique<FunctionTask>(meet));
    pointers.push_back(tasks.back().get());
  }
  ThreadPool pool({.threads = kThreads});
  EXPECT_EQ(pool.Submit(pointers), pointers.size());
}

// So many tasks, all alike.
class Tasks {
 public:
  Tasks(int count, const std::function<void()>& run) {
    for (int i = 0; i < count; ++i) pointers_.push_back(&tasks_.emplace_back(run));
  }
  const std::vector<Executor::Task*>& pointers() const { return pointers_; }

 private:
  std::deque<FunctionTask> tasks_;
  std::vector<Executor::Task*> pointers_;
};

// Has `pool` run many short tasks at a time, so that it learns how short they are.
void RunManyShortTasks(ThreadPool& pool) {
  for (int round = 0; round < 50; ++round) {
    test::Countdown left(100);
    const Tasks tasks(100, [&] { left.DecrementCount(); });
    EXPECT_EQ(pool.Submit(tasks.pointers()), 100u);
    left.Wait();
  }
}

// How many more threads than one run the tasks of a round, in 50 rounds of 100 that each do `task`.
int CountSwitches(ThreadPool& pool, const std::function<void()>& task) {
  absl::Mutex mutex;
  int switches = 0;
  for (int round = 0; round < 50; ++round) {
    std::set<std::thread::id> threads;
    test::Countdown left(100);
    const Tasks tasks(100, [&] {
      task();
      // Whoever was called has the time to come.
      std::this_thread::yield();
      {
        absl::MutexLock lock(&mutex);
        threads.insert(std::this_thread::get_id());
      }
      left.DecrementCount();
    });
    pool.Submit(tasks.pointers());
    left.Wait();
    switches += static_cast<int>(threads.size()) - 1;
  }
  return switches;
}

TEST(ThreadPoolTest, RunsShortTasksOnFewThreads) {
  // It stands still: tasks take no time at all.
  transport::ManualClock clock;
  // Whoever watches does not look meanwhile.
  ThreadPool pool({.threads = 8, .clock = &clock, .look = absl::Minutes(10)});
  RunManyShortTasks(pool);
  // The one that is called, and now and then the one that watches; not all eight each time.
  EXPECT_LE(CountSwitches(pool, [] {}), 200);
}

TEST(ThreadPoolTest, CallsNobodyForShortTasksWhileAThreadIsAtWork) {
  transport::ManualClock clock;
  ThreadPool pool({.threads = 8, .clock = &clock, .look = absl::Minutes(10)});
  RunManyShortTasks(pool);
  int elsewhere = 0;
  for (int round = 0; round < 50; ++round) {
    absl::Notification running, go;
    test::Countdown left(21);
    std::thread::id at_work;
    FunctionTask first([&] {
      at_work = std::this_thread::get_id();
      running.Notify();
      go.WaitForNotification();
      left.DecrementCount();
    });
    Executor::Task* const one[] = {&first};
    EXPECT_EQ(pool.Submit(one), 1u);
    running.WaitForNotification();
    std::atomic<int> on_others{0};
    const Tasks tasks(20, [&] {
      if (std::this_thread::get_id() != at_work) ++on_others;
      left.DecrementCount();
    });
    EXPECT_EQ(pool.Submit(tasks.pointers()), 20u);
    go.Notify();
    left.Wait();
    elsewhere += on_others > 0 ? 1 : 0;
  }
  // Now and then nobody watches.
  EXPECT_LE(elsewhere, 10);
}

TEST(ThreadPoolTest, AThreadThatStaysInItsTaskKeepsNoOthersWaiting) {
  transport::ManualClock clock;
  // Whoever watches does not look meanwhile.
  ThreadPool pool({.threads = 4, .clock = &clock, .look = absl::Minutes(10)});
  RunManyShortTasks(pool);
  absl::Notification running, go, ended;
  FunctionTask stays([&] {
    running.Notify();
    go.WaitForNotification();
    ended.Notify();
  });
  Executor::Task* const one[] = {&stays};
  EXPECT_EQ(pool.Submit(one), 1u);
  running.WaitForNotification();
  for (int round = 0; round < 50; ++round) {
    test::Countdown left(2);
    const Tasks tasks(2, [&] { left.DecrementCount(); });
    EXPECT_EQ(pool.Submit(absl::MakeSpan(tasks.pointers()).subspan(0, 1)), 1u);
    EXPECT_EQ(pool.Submit(absl::MakeSpan(tasks.pointers()).subspan(1, 1)), 1u);
    left.Wait();
  }
  go.Notify();
  ended.WaitForNotification();
}

// A clock on which threads lose their processor whenever it moves.
class CrowdedClock final : public transport::Clock {
 public:
  transport::Instant Now() const override { return clock_.Now(); }
  int64_t Interruptions() const override { return interruptions_; }
  void Advance(absl::Duration time) {
    ++interruptions_;
    clock_.Advance(time);
  }

 private:
  transport::ManualClock clock_;
  std::atomic<int64_t> interruptions_{0};
};

TEST(ThreadPoolTest, TasksAreNoLongerForWhatOthersTookOfTheProcessor) {
  CrowdedClock clock;
  ThreadPool pool({.threads = 8, .clock = &clock, .look = absl::Minutes(10)});
  RunManyShortTasks(pool);
  EXPECT_LE(CountSwitches(pool, [&] { clock.Advance(absl::Microseconds(10)); }), 200);
}

TEST(ThreadPoolTest, TasksBehindOneThatTakesLongThoughOthersWereShortAreRun) {
  for (int round = 0; round < 20; ++round) {
    transport::ManualClock clock;
    ThreadPool pool({.threads = 2, .clock = &clock});
    RunManyShortTasks(pool);
    // The first of them waits for the second, whose thread nobody else calls.
    absl::Notification done;
    test::Countdown left(2);
    FunctionTask waits([&] {
      done.WaitForNotification();
      left.DecrementCount();
    });
    FunctionTask ends_it([&] {
      done.Notify();
      left.DecrementCount();
    });
    Executor::Task* const tasks[] = {&waits, &ends_it};
    EXPECT_EQ(pool.Submit(tasks), 2u);
    left.Wait();
  }
}

TEST(ThreadPoolTest, RunsLongTasksOnAllThreads) {
  constexpr int kThreads = 4;
  transport::ManualClock clock;
  ThreadPool pool({.threads = kThreads, .clock = &clock});
  RunManyShortTasks(pool);
  for (int round = 0; round < 20; ++round) {
    absl::Barrier* const all = new absl::Barrier(kThreads);
    test::Countdown left(kThreads);
    const Tasks tasks(kThreads, [&] {
      clock.Advance(absl::Milliseconds(10));
      if (all->Block()) delete all;
      left.DecrementCount();
    });
    EXPECT_EQ(pool.Submit(tasks.pointers()), static_cast<size_t>(kThreads));
    left.Wait();
  }
}

TEST(ThreadPoolTest, MayBeStoppedWhileAThreadWatches) {
  for (int round = 0; round < 20; ++round) {
    ThreadPool pool({.threads = 3});
    RunManyShortTasks(pool);
    pool.Stop();
    FunctionTask late([] { ADD_FAILURE() << "ran"; });
    Executor::Task* const pointer = &late;
    EXPECT_EQ(pool.Submit({&pointer, 1}), 0u);
  }
}

TEST(ThreadPoolTest, MayBeStoppedByATask) {
  for (const int threads : {1, 3}) {
    SCOPED_TRACE(threads);
    auto pool = std::make_shared<ThreadPool>(ThreadPool::Options{.threads = threads});
    absl::Notification submitted, done;
    std::atomic<int> ran{0};
    FunctionTask stop([&] {
      // Until the thread has ended.
      static thread_local std::shared_ptr<ThreadPool> kept;
      kept = pool;
      submitted.WaitForNotification();
      pool->Stop();
      EXPECT_EQ(ran, 20) << "what waited has run";
      done.Notify();
    });
    FunctionTask count([&] { ++ran; });
    std::vector<Executor::Task*> tasks(21, &count);
    tasks[0] = &stop;
    EXPECT_EQ(pool->Submit(tasks), 21u);
    submitted.Notify();
    done.WaitForNotification();
    EXPECT_EQ(pool->Submit(tasks), 0u);
  }
}

TEST(ThreadPoolTest, LetsATaskDestroyItself) {
  int ran = 0;
  class SelfDestroying final : public Executor::Task {
   public:
    explicit SelfDestroying(int& count) : count_(count) {}
    void Run() override {
      ++count_;
      self.reset();
    }
    std::unique_ptr<SelfDestroying> self;

   private:
    int& count_;
  };
  auto task = std::make_unique<SelfDestroying>(ran);
  SelfDestroying* const raw = task.get();
  raw->self = std::move(task);
  {
    ThreadPool pool({.threads = 1});
    Executor::Task* pointer = raw;
    EXPECT_EQ(pool.Submit({&pointer, 1}), 1u);
  }
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace ferry
