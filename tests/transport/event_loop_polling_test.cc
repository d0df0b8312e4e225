// Loops that ask instead of waiting.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"
#include "tests/transport/event_loop_fixture.h"

namespace ferry::transport {
namespace {

using test::NewLoop;
using test::RunIn;

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

}  // namespace
}  // namespace ferry::transport
