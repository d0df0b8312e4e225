// Who runs a loop once its guest leaves, or must let the loop's own thread in.
#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"
#include "tests/transport/event_loop_fixture.h"
#include "tests/transport/event_loop_guest_fixture.h"

namespace ferry::transport {
namespace {

using test::NewLoop;
using test::RunIn;

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

}  // namespace
}  // namespace ferry::transport
