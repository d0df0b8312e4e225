#include "ferry/transport/mutex.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

TEST(MutexTest, LetsOneThreadInAtATime) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 50'000;
  Mutex mutex;
  int inside = 0;
  int rounds = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        MutexLock lock(mutex);
        EXPECT_EQ(++inside, 1);
        // Others come meanwhile, and have to wait.
        if (round % 1000 == 0) std::this_thread::yield();
        ++rounds;
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rounds, kThreads * kRounds);
}

}  // namespace
}  // namespace ferry::transport
