#include "ferry/rpc/message_assembly.h"

#include <string>

#include "absl/status/status.h"
#include "ferry/rpc/budget.h"
#include "ferry/transport/buffer_pool.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

class MessageAssemblyTest : public ::testing::Test {
 protected:
  transport::BufferPool pool_;
  transport::BlockCache blocks_{pool_};
};

TEST_F(MessageAssemblyTest, PutsFragmentsTogether) {
  Budget budget(100);
  MessageAssembly assembly;
  ASSERT_TRUE(assembly.Begin(5, 100, budget, blocks_).ok());
  EXPECT_EQ(budget.used(), 5u);
  EXPECT_TRUE(assembly.Append("he").ok());
  EXPECT_FALSE(assembly.whole());
  EXPECT_TRUE(assembly.Append("").ok());
  EXPECT_TRUE(assembly.Append("llo").ok());
  EXPECT_TRUE(assembly.whole());
  EXPECT_EQ(assembly.bytes(), "hello");
}

TEST_F(MessageAssemblyTest, RefusesAMessageOverTheLimitWithoutTakingRoom) {
  Budget budget(1000);
  MessageAssembly assembly;
  EXPECT_EQ(assembly.Begin(101, 100, budget, blocks_),
            absl::ResourceExhaustedError("message is 101 bytes, limit is 100"));
  EXPECT_FALSE(assembly.active());
  EXPECT_EQ(budget.used(), 0u);
}

TEST_F(MessageAssemblyTest, RefusesAMessageThatTheBudgetHasNoRoomFor) {
  Budget budget(100);
  ASSERT_TRUE(budget.Take(60));
  MessageAssembly assembly;
  EXPECT_EQ(assembly.Begin(41, 1000, budget, blocks_),
            absl::ResourceExhaustedError("message is 41 bytes, but 60 of 100 bytes for messages are in use"));
  EXPECT_FALSE(assembly.active());
  EXPECT_EQ(budget.used(), 60u);
}

TEST_F(MessageAssemblyTest, RefusesFragmentsThatDoNotAddUp) {
  Budget budget(100);
  MessageAssembly assembly;
  ASSERT_TRUE(assembly.Begin(5, 100, budget, blocks_).ok());
  ASSERT_TRUE(assembly.Append("hell").ok());
  EXPECT_EQ(assembly.TooShort(), absl::InternalError("fragments have 4 bytes, message_length is 5"));
  EXPECT_EQ(assembly.Append("o!"), absl::InternalError("fragments have 6 bytes, message_length is 5"));
  EXPECT_EQ(assembly.bytes(), "hell");
}

TEST_F(MessageAssemblyTest, GivesMemoryBackBeforeTheBudget) {
  Budget budget(100'000);
  MessageAssembly assembly;
  ASSERT_TRUE(assembly.Begin(70'000, 100'000, budget, blocks_).ok());
  EXPECT_GE(pool_.stats().used_bytes, 70'000u);
  assembly.FreeBytes();
  EXPECT_EQ(pool_.stats().used_bytes, 0u);
  EXPECT_EQ(budget.used(), 70'000u);
  EXPECT_EQ(assembly.total(), 70'000u);
}

TEST_F(MessageAssemblyTest, HandsItsMemoryOver) {
  Budget budget(100);
  MessageAssembly assembly;
  ASSERT_TRUE(assembly.Begin(5, 100, budget, blocks_).ok());
  ASSERT_TRUE(assembly.Append("hello").ok());
  const transport::Block block = assembly.Take();
  EXPECT_EQ(absl::string_view(block.data(), 5), "hello");
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_FALSE(assembly.active());
}

TEST_F(MessageAssemblyTest, GivesTheBudgetBack) {
  Budget budget(100);
  {
    MessageAssembly assembly;
    ASSERT_TRUE(assembly.Begin(60, 100, budget, blocks_).ok());
    assembly.Reset();
    assembly.Reset();
    EXPECT_EQ(budget.used(), 0u);
    ASSERT_TRUE(assembly.Begin(60, 100, budget, blocks_).ok());
    EXPECT_EQ(budget.used(), 60u);
  }
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace ferry
