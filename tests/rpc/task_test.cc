// Coroutines, on a manual clock and one thread, but for those that switch.
#include "ferry/rpc/task.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/task_scope.h"
#include "ferry/rpc/thread_pool.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/testing/manual_executor.h"

namespace ferry {
namespace {

using transport::EventLoop;

class TaskTest : public ::testing::Test {
 protected:
  // Runs `task` as far as it goes without time passing. Its result, if it has come to an end.
  template <typename T>
  void Begin(Task<T> task, std::optional<T>& result, const TaskScope::Options& options = {}) {
    Spawn(
        *loop_, std::move(task), [&result](T value) { result = std::move(value); }, options);
    loop_->RunUntilIdle();
  }
  void Advance(absl::Duration duration) {
    clock_.Advance(duration);
    loop_->RunUntilIdle();
  }

  transport::ManualClock clock_;
  const std::unique_ptr<EventLoop> loop_ = *EventLoop::Create({.clock = &clock_});
};

Task<int> Double(int n) { co_return 2 * n; }

Task<int64_t> SumOfDoubles(int count) {
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await Double(i);
  co_return sum;
}

TEST_F(TaskTest, DoesNothingUntilItIsStarted) {
  bool ran = false;
  auto work = [](bool& flag) -> Task<> {
    flag = true;
    co_return;
  };
  { const Task<> task = work(ran); }
  EXPECT_FALSE(ran);
  Spawn(*loop_, work(ran), [] {});
  EXPECT_FALSE(ran);
  loop_->RunUntilIdle();
  EXPECT_TRUE(ran);
}

// A nested call for each would use up the stack.
TEST_F(TaskTest, MayWaitForAMillionOthers) {
  std::optional<int64_t> result;
  Begin(SumOfDoubles(1'000'000), result);
  EXPECT_EQ(result, int64_t{1'000'000} * 999'999);
}

TEST_F(TaskTest, ReturnsWhatCannotBeCopied) {
  std::optional<std::unique_ptr<std::string>> result;
  Begin([]() -> Task<std::unique_ptr<std::string>> { co_return std::make_unique<std::string>("text"); }(),
        result);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(**result, "text");
}

TEST_F(TaskTest, IsEmptyByDefault) {
  EXPECT_FALSE(Task<int>());
  EXPECT_TRUE(Double(1));
}

// What a task's parameters own is destroyed before its result is told.
TEST_F(TaskTest, IsDestroyedBeforeItsResultIsTold) {
  auto owned = std::make_shared<int>(7);
  const std::weak_ptr<int> watched = owned;
  bool told = false;
  Spawn(
      *loop_, [](std::shared_ptr<int> n) -> Task<int> { co_return *n; }(std::move(owned)),
      [&](int n) {
        told = true;
        EXPECT_EQ(n, 7);
        EXPECT_TRUE(watched.expired());
      });
  loop_->RunUntilIdle();
  EXPECT_TRUE(told);
}

// ---------------------------------------------------------------- Time

Task<absl::Status> Nap(absl::Duration duration) { co_return co_await Sleep(duration); }

TEST_F(TaskTest, SleepsForItsTime) {
  std::optional<absl::Status> result;
  Begin(Nap(absl::Seconds(2)), result);
  Advance(absl::Milliseconds(1999));
  EXPECT_EQ(result, std::nullopt);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(result, absl::OkStatus());
}

TEST_F(TaskTest, SleepsForNoTime) {
  std::optional<absl::Status> result;
  Begin(Nap(absl::ZeroDuration()), result);
  EXPECT_EQ(result, absl::OkStatus());
}

TEST_F(TaskTest, IsWokenWhenItIsStopped) {
  std::stop_source stop;
  std::optional<absl::Status> result, endless;
  Begin(Nap(absl::Hours(1)), result, {.stop_token = stop.get_token()});
  Begin(Nap(absl::InfiniteDuration()), endless, {.stop_token = stop.get_token()});
  EXPECT_EQ(result, std::nullopt);
  stop.request_stop();
  loop_->RunUntilIdle();
  EXPECT_EQ(result, absl::CancelledError("the work that slept was cancelled"));
  EXPECT_EQ(endless, result);
  EXPECT_EQ(loop_->timers().next_due(), transport::Instant::Infinite());
}

TEST_F(TaskTest, IsWokenAtOnceIfItWasStoppedBefore) {
  std::stop_source stop;
  stop.request_stop();
  std::optional<absl::Status> result;
  Begin(Nap(absl::Hours(1)), result, {.stop_token = stop.get_token()});
  EXPECT_EQ(result, absl::CancelledError("the work that slept was cancelled"));
}

TEST_F(TaskTest, IsWokenAtTheDeadline) {
  std::optional<absl::Status> result;
  Begin(Nap(absl::Hours(1)), result, {.timeout = absl::Seconds(1)});
  Advance(absl::Milliseconds(999));
  EXPECT_EQ(result, std::nullopt);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(result, absl::DeadlineExceededError("the deadline came before the end of the sleep"));
}

// ---------------------------------------------------------------- Scopes

Task<CallScope*> ScopeOfChild() { co_return CallScope::Current(); }

TEST_F(TaskTest, RunsInItsScopeAndLeavesNone) {
  auto work = []() -> Task<bool> {
    CallScope* const scope = CallScope::Current();
    const bool inherited = co_await ScopeOfChild() == scope;
    const absl::Status slept = co_await Sleep(absl::Seconds(1));
    co_return scope != nullptr&& inherited&& slept.ok() && CallScope::Current() == scope;
  };
  std::optional<bool> result;
  Begin(work(), result);
  EXPECT_EQ(CallScope::Current(), nullptr);
  Advance(absl::Seconds(1));
  EXPECT_EQ(result, true);
  EXPECT_EQ(CallScope::Current(), nullptr);
}

TEST_F(TaskTest, APartMayHaveLessTime) {
  auto work = []() -> Task<absl::Status> {
    TaskScope part(*CallScope::Current(), {.timeout = absl::Seconds(1)});
    const absl::Status status = co_await Nap(absl::Hours(1)).In(part);
    if (!absl::IsDeadlineExceeded(status)) co_return absl::InternalError("the part had more time");
    co_return co_await Sleep(absl::Seconds(1));
  };
  std::optional<absl::Status> result;
  Begin(work(), result, {.timeout = absl::Seconds(10)});
  Advance(absl::Seconds(1));
  EXPECT_EQ(result, std::nullopt);
  Advance(absl::Seconds(1));
  EXPECT_EQ(result, absl::OkStatus());
}

TEST_F(TaskTest, APartHasNoMoreTimeThanTheWhole) {
  auto work = []() -> Task<absl::Duration> {
    TaskScope part(*CallScope::Current(), {.timeout = absl::Hours(1)});
    co_return part.time_left();
  };
  std::optional<absl::Duration> result;
  Begin(work(), result, {.timeout = absl::Seconds(10)});
  EXPECT_EQ(result, absl::Seconds(10));
}

TEST_F(TaskTest, APartStopsWithTheWhole) {
  auto work = []() -> Task<absl::Status> {
    TaskScope part(*CallScope::Current(), {});
    co_return co_await Nap(absl::Hours(1)).In(part);
  };
  std::stop_source stop;
  std::optional<absl::Status> result;
  Begin(work(), result, {.stop_token = stop.get_token()});
  stop.request_stop();
  loop_->RunUntilIdle();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsCancelled(*result));
}

// ---------------------------------------------------------------- Side by side

TEST_F(TaskTest, AllRunSideBySide) {
  auto nap = [](int seconds) -> Task<int> {
    const absl::Status slept = co_await Sleep(absl::Seconds(seconds));
    co_return slept.ok() ? seconds : -1;
  };
  auto work = [&nap]() -> Task<std::vector<int>> {
    std::vector<Task<int>> naps;
    for (const int seconds : {3, 1, 2}) naps.push_back(nap(seconds));
    co_return co_await All(std::move(naps));
  };
  std::optional<std::vector<int>> result;
  Begin(work(), result);
  Advance(absl::Seconds(2));
  EXPECT_EQ(result, std::nullopt);
  Advance(absl::Seconds(1));
  EXPECT_EQ(result, (std::vector<int>{3, 1, 2}));
}

TEST_F(TaskTest, AllOfNothingOrOfWhatDoesNotWaitIsThereAtOnce) {
  auto work = [](int count) -> Task<std::vector<int>> {
    std::vector<Task<int>> tasks;
    tasks.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) tasks.push_back(Double(i));
    co_return co_await All(std::move(tasks));
  };
  std::optional<std::vector<int>> none, some;
  Begin(work(0), none);
  Begin(work(3), some);
  EXPECT_EQ(none, std::vector<int>());
  EXPECT_EQ(some, (std::vector<int>{0, 2, 4}));
}

TEST_F(TaskTest, AllAreStoppedTogether) {
  auto work = []() -> Task<int> {
    std::vector<Task<absl::Status>> naps;
    naps.reserve(10);
    for (int i = 0; i < 10; ++i) naps.push_back(Nap(absl::Hours(i + 1)));
    int cancelled = 0;
    for (const absl::Status& status : co_await All(std::move(naps))) cancelled += absl::IsCancelled(status);
    co_return cancelled;
  };
  std::stop_source stop;
  std::optional<int> result;
  Begin(work(), result, {.stop_token = stop.get_token()});
  stop.request_stop();
  loop_->RunUntilIdle();
  EXPECT_EQ(result, 10);
}

// ---------------------------------------------------------------- Elsewhere

TEST_F(TaskTest, WaitsForACallback) {
  std::optional<Resumer<int>> later;
  auto work = [&later]() -> Task<int> {
    const int now = co_await Callback<int>([](Resumer<int> resume) { resume(1); });
    const int then = co_await Callback<int>([&later](Resumer<int> resume) { later = resume; });
    co_return now + then;
  };
  std::optional<int> result;
  Begin(work(), result);
  ASSERT_TRUE(later.has_value());
  EXPECT_EQ(result, std::nullopt);
  (*later)(2);
  EXPECT_EQ(result, 3);
}

TEST_F(TaskTest, SwitchesThreads) {
  ThreadPool pool({.threads = 1});
  const std::unique_ptr<transport::LoopGroup> loops = *transport::LoopGroup::Create({.threads = 1});
  auto work = [&pool, &home = loops->loop(0)]() -> Task<bool> {
    CallScope* const scope = CallScope::Current();
    const bool began_home = home.InLoop();
    const absl::Status away = co_await SwitchTo(pool);
    const bool went_away = away.ok() && !EventLoop::InAnyLoop() && CallScope::Current() == scope;
    const absl::Status back = co_await SwitchTo(home);
    const bool came_back = back.ok() && home.InLoop() && CallScope::Current() == scope;
    co_return (began_home && went_away && came_back);
  };
  EXPECT_TRUE(BlockOn(loops->loop(0), work()));
}

TEST_F(TaskTest, StaysWhereItIsIfTheExecutorIsFull) {
  test::ManualExecutor executor(0);
  auto work = [&executor]() -> Task<absl::Status> { co_return co_await SwitchTo(executor); };
  std::optional<absl::Status> result;
  Begin(work(), result);
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*result)) << *result;
}

TEST_F(TaskTest, StaysWhereItIsIfTheExecutorHasEnded) {
  ThreadPool pool({.threads = 1});
  pool.Stop();
  auto work = [&pool]() -> Task<absl::Status> { co_return co_await SwitchTo(pool); };
  std::optional<absl::Status> result;
  Begin(work(), result);
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*result)) << *result;
}

// Stops race with sleeps that begin and end, on three threads.
TEST(TaskThreadsTest, AreStoppedFromAnyThread) {
  const std::unique_ptr<transport::LoopGroup> loops = *transport::LoopGroup::Create({.threads = 1});
  for (int round = 0; round < 300; ++round) {
    std::stop_source stop;
    std::thread stopper([&stop] { stop.request_stop(); });
    const absl::Status status =
        BlockOn(loops->loop(0), Nap(absl::Microseconds(round % 3 * 20)), {.stop_token = stop.get_token()});
    stopper.join();
    EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
  }
}

TEST(TaskDeathTest, BlockingOnALoopsThreadDies) {
  const std::unique_ptr<EventLoop> loop = *EventLoop::Create({});
  loop->Post(
      [&loop] { EXPECT_DEATH(BlockOn(*loop, Double(1)), "BlockOn was called on an event loop's thread"); });
  loop->RunUntilIdle();
}

}  // namespace
}  // namespace ferry
