// Guests, which run a loop on threads that are not its own.
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/timer_queue.h"
#include "gtest/gtest.h"
#include "tests/transport/event_loop_fixture.h"
#include "tests/transport/event_loop_guest_fixture.h"

namespace ferry::transport {
namespace {

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
