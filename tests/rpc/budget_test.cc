#include "ferry/rpc/budget.h"

#include <cstddef>
#include <limits>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ferry {
namespace {

TEST(BudgetTest, GivesWhatItHas) {
  Budget budget(10);
  EXPECT_TRUE(budget.Take(7));
  EXPECT_FALSE(budget.Take(4));
  EXPECT_EQ(budget.used(), 7u);
  EXPECT_TRUE(budget.Take(3));
  EXPECT_TRUE(budget.Take(0));
  budget.GiveBack(10);
  EXPECT_EQ(budget.used(), 0u);
}

TEST(BudgetTest, IsNotFooledByAmountsThatOverflow) {
  Budget budget(10);
  EXPECT_TRUE(budget.Take(7));
  EXPECT_FALSE(budget.Take(std::numeric_limits<size_t>::max() - 3));
  EXPECT_EQ(budget.used(), 7u);
}

TEST(BudgetTest, TakesFromTheLargerOneTooOrFromNeither) {
  Budget whole(10);
  Budget part(8, &whole);
  Budget other(8, &whole);
  EXPECT_TRUE(part.Take(6));
  EXPECT_FALSE(other.Take(6));
  EXPECT_EQ(other.used(), 0u);
  EXPECT_EQ(whole.used(), 6u);
  part.GiveBack(6);
  EXPECT_TRUE(other.Take(6));
  EXPECT_EQ(whole.used(), 6u);
}

TEST(BudgetTest, IsNeverExceededByThreads) {
  Budget budget(100);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10'000; ++round) {
        if (!budget.Take(40)) continue;
        EXPECT_LE(budget.used(), 100u);
        budget.GiveBack(40);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace ferry
