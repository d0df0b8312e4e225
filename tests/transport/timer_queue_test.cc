#include "ferry/transport/timer_queue.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using test::Random;

// A function, not a lambda that captures nothing: GCC 12 warns of moving the empty state of such a lambda.
void MustNotRun() { FAIL(); }

Instant At(int64_t nanos) { return {nanos}; }

TEST(TimerQueueTest, HoldsNothingAtFirst) {
  TimerQueue queue;
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.next_due(), Instant::Infinite());
  EXPECT_EQ(queue.PopDue(Instant::Infinite()), nullptr);
}

TEST(TimerQueueTest, RunsTimersInTheOrderTheyFallDue) {
  TimerQueue queue;
  std::vector<int> ran;
  Timer late([&] { ran.push_back(30); });
  Timer early([&] { ran.push_back(10); });
  Timer middle([&] { ran.push_back(20); });
  queue.Arm(late, At(30));
  queue.Arm(early, At(10));
  queue.Arm(middle, At(20));
  queue.RunDue(At(30));
  EXPECT_EQ(ran, (std::vector<int>{10, 20, 30}));
}

TEST(TimerQueueTest, LeavesTimersThatAreNotDue) {
  TimerQueue queue;
  int ran = 0;
  Timer timer([&] { ++ran; });
  queue.Arm(timer, At(10));
  queue.RunDue(At(9));
  EXPECT_EQ(ran, 0);
  EXPECT_TRUE(timer.armed());
  EXPECT_EQ(queue.next_due(), At(10));
  queue.RunDue(At(10));
  EXPECT_EQ(ran, 1);
  EXPECT_FALSE(timer.armed());
}

TEST(TimerQueueTest, ArmingAnArmedTimerMovesIt) {
  TimerQueue queue;
  int ran = 0;
  Timer timer([&] { ++ran; });
  queue.Arm(timer, At(10));
  queue.Arm(timer, At(20));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(timer.due(), At(20));
  queue.RunDue(At(19));
  EXPECT_EQ(ran, 0);
  queue.RunDue(At(20));
  EXPECT_EQ(ran, 1);
}

TEST(TimerQueueTest, ACancelledTimerDoesNotRun) {
  TimerQueue queue;
  int ran = 0;
  Timer timer([&] { ++ran; });
  queue.Arm(timer, At(10));
  queue.Cancel(timer);
  queue.Cancel(timer);
  queue.RunDue(At(10));
  EXPECT_EQ(ran, 0);
  EXPECT_TRUE(queue.empty());
}

TEST(TimerQueueTest, ADestroyedTimerLeavesItsQueue) {
  TimerQueue queue;
  {
    Timer timer(&MustNotRun);
    queue.Arm(timer, At(10));
  }
  EXPECT_TRUE(queue.empty());
  queue.RunDue(At(10));
}

TEST(TimerQueueTest, ADestroyedQueueDisarmsItsTimers) {
  Timer timer(&MustNotRun);
  {
    TimerQueue queue;
    queue.Arm(timer, At(10));
  }
  EXPECT_FALSE(timer.armed());
}

TEST(TimerQueueTest, ATimerArmedForNowByACallbackWaitsForTheNextRun) {
  TimerQueue queue;
  int ran = 0;
  std::optional<Timer> timer;
  timer.emplace([&] {
    ++ran;
    queue.Arm(*timer, At(5));
  });
  queue.Arm(*timer, At(10));
  queue.RunDue(At(10));
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(queue.next_due(), At(5));
  queue.RunDue(At(10));
  EXPECT_EQ(ran, 2);
}

TEST(TimerQueueTest, ACallbackMayCancelAnotherTimerThatIsDue) {
  TimerQueue queue;
  Timer second(&MustNotRun);
  Timer first([&] { queue.Cancel(second); });
  queue.Arm(first, At(1));
  queue.Arm(second, At(2));
  queue.RunDue(At(2));
  EXPECT_TRUE(queue.empty());
}

TEST(TimerQueueTest, ACallbackMayMoveAnotherTimerThatIsDue) {
  TimerQueue queue;
  int ran = 0;
  Timer second([&] { ++ran; });
  Timer first([&] { queue.Arm(second, At(9)); });
  queue.Arm(first, At(1));
  queue.Arm(second, At(2));
  queue.RunDue(At(2));
  EXPECT_EQ(ran, 0);
  EXPECT_EQ(second.due(), At(9));
  queue.RunDue(At(9));
  EXPECT_EQ(ran, 1);
}

TEST(TimerQueueTest, ACallbackMayDestroyItsTimerAndOthers) {
  TimerQueue queue;
  auto other = std::make_unique<Timer>(&MustNotRun);
  std::optional<Timer> timer;
  timer.emplace([&] {
    other.reset();
    timer.reset();
  });
  queue.Arm(*timer, At(1));
  queue.Arm(*other, At(2));
  queue.RunDue(At(2));
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(timer.has_value());
}

TEST(TimerQueueTest, PopDueTakesTheFirstWithoutRunningIt) {
  TimerQueue queue;
  Timer first(&MustNotRun);
  Timer second(&MustNotRun);
  queue.Arm(second, At(2));
  queue.Arm(first, At(1));
  EXPECT_EQ(queue.PopDue(At(1)), &first);
  EXPECT_FALSE(first.armed());
  EXPECT_EQ(queue.PopDue(At(1)), nullptr);
  EXPECT_EQ(queue.size(), 1u);
}

TEST(TimerQueueTest, KeepsItsOrderUnderRandomChanges) {
  Random random;
  TimerQueue queue;
  std::vector<std::unique_ptr<Timer>> timers;
  timers.reserve(100);
  for (int i = 0; i < 100; ++i) timers.push_back(std::make_unique<Timer>());
  for (int step = 0; step < 10'000; ++step) {
    Timer& timer = *timers[random.Number(0, timers.size() - 1)];
    if (random.Coin()) {
      queue.Arm(timer, At(static_cast<int64_t>(random.Number(0, 1000))));
    } else {
      queue.Cancel(timer);
    }
    Instant first = Instant::Infinite();
    for (const auto& t : timers) first = t->armed() ? std::min(first, t->due()) : first;
    ASSERT_EQ(queue.next_due(), first);
  }
  Instant last = At(0);
  while (Timer* timer = queue.PopDue(At(1000))) {
    EXPECT_LE(last, timer->due());
    last = timer->due();
  }
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace ferry::transport
