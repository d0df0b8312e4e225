#include "ferry/rpc/shutdown_signal.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "gtest/gtest.h"

namespace ferry {
namespace {

// Whether this thread blocks `signal`.
bool Blocks(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 1;
}

TEST(ShutdownSignalTest, WaitsForEitherSignalWheneverItComes) {
  for (const int number : {SIGTERM, SIGINT}) {
    ShutdownSignal signal;
    // Every thread of this process blocks it.
    kill(getpid(), number);
    EXPECT_EQ(signal.Wait(), number);
  }
}

TEST(ShutdownSignalTest, IsBlockedInThreadsStartedWhileItLives) {
  EXPECT_FALSE(Blocks(SIGTERM));
  {
    const ShutdownSignal signal;
    std::thread([] {
      EXPECT_TRUE(Blocks(SIGTERM));
      EXPECT_TRUE(Blocks(SIGINT));
      EXPECT_FALSE(Blocks(SIGHUP));
    }).join();
  }
  EXPECT_FALSE(Blocks(SIGTERM));
  EXPECT_FALSE(Blocks(SIGINT));
}

TEST(ShutdownSignalTest, LeavesWhatWasBlockedBefore) {
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, &before);
  { const ShutdownSignal signal; }
  EXPECT_TRUE(Blocks(SIGTERM));
  EXPECT_FALSE(Blocks(SIGINT));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(ShutdownSignalDeathTest, ASecondSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        ShutdownSignal signal;
        kill(getpid(), SIGTERM);
        signal.Wait();
        kill(getpid(), SIGTERM);
        std::_Exit(0);
      },
      testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace ferry
