#include "ferry/rpc/thread_pool.h"

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/executor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

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
