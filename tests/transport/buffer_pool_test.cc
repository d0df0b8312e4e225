#include "ferry/transport/buffer_pool.h"

#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using test::Random;

constexpr size_t kKiB = 1024;

// Tests of what happens to blocks that are kept.
class KeptBlockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!BufferPool::kKeepsBlocks) GTEST_SKIP() << "nothing is kept under AddressSanitizer";
  }
};

using KeptInCacheTest = KeptBlockTest;

TEST(BufferPoolTest, RoundsSizesUpToPowersOfTwo) {
  BufferPool pool;
  const struct {
    size_t asked;
    size_t given;
  } kCases[] = {
      {0, 4 * kKiB},
      {1, 4 * kKiB},
      {4 * kKiB, 4 * kKiB},
      {4 * kKiB + 1, 8 * kKiB},
      {100'000, 128 * kKiB},
      {1024 * kKiB, 1024 * kKiB},
      {1024 * kKiB + 1, 1024 * kKiB + 1},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.asked);
    EXPECT_EQ(pool.Allocate(c.asked).capacity(), c.given);
  }
}

TEST(BufferPoolTest, GivesEveryByteAskedFor) {
  BufferPool pool;
  const Block block = pool.Allocate(10'000);
  std::memset(block.data(), 'x', block.capacity());
  EXPECT_EQ(block.data()[block.capacity() - 1], 'x');
}

TEST(BufferPoolTest, CountsReferences) {
  BufferPool pool;
  Block first = pool.Allocate(1);
  EXPECT_TRUE(first.unique());
  {
    // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): the copy is what counts
    const Block second(first);
    EXPECT_FALSE(first.unique());
    EXPECT_EQ(second.data(), first.data());
  }
  EXPECT_TRUE(first.unique());
  first = Block();
  EXPECT_FALSE(first);
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

TEST_F(KeptBlockTest, UsesAReturnedBlockAgain) {
  BufferPool pool;
  const char* data = pool.Allocate(5000).data();
  EXPECT_EQ(pool.stats().kept_bytes, 8 * kKiB);
  EXPECT_EQ(pool.Allocate(6000).data(), data);
  EXPECT_EQ(pool.stats().heap_allocations, 1u);
}

TEST(BufferPoolTest, CountsBytesInUse) {
  BufferPool pool;
  const Block small = pool.Allocate(1);
  const Block large = pool.Allocate(2'000'000);
  EXPECT_EQ(pool.stats().used_bytes, 4 * kKiB + 2'000'000);
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
}

TEST(BufferPoolTest, KeepsNoBlockAboveTheLargestSize) {
  BufferPool pool;
  pool.Allocate(BufferPool::kMaxBlock + 1);
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

TEST_F(KeptBlockTest, KeepsNoMoreThanTheLimit) {
  BufferPool pool({.max_kept_bytes = 8 * kKiB});
  { const Block blocks[] = {pool.Allocate(1), pool.Allocate(1), pool.Allocate(1)}; }
  EXPECT_EQ(pool.stats().kept_bytes, 8 * kKiB);
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

TEST_F(KeptBlockTest, TrimGivesBackWhatIsOld) {
  ManualClock clock;
  BufferPool pool({.max_age = absl::Seconds(10), .clock = &clock});
  std::optional<Block> late = pool.Allocate(1);
  pool.Allocate(1);
  clock.Advance(absl::Seconds(6));
  late.reset();
  pool.Trim();
  EXPECT_EQ(pool.stats().kept_bytes, 8 * kKiB);
  clock.Advance(absl::Seconds(4));
  pool.Trim();
  EXPECT_EQ(pool.stats().kept_bytes, 4 * kKiB);
  clock.Advance(absl::Seconds(6));
  pool.Trim();
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
}

TEST(BufferPoolTest, BlocksMayOutliveThePool) {
  Block block;
  {
    BufferPool pool;
    block = pool.Allocate(1);
    pool.Allocate(1);
  }
  block.data()[0] = 'x';
  EXPECT_EQ(block.data()[0], 'x');
}

TEST(MakeCordTest, KeepsTheBlockAsLongAsTheCordLives) {
  BufferPool pool;
  absl::Cord cord;
  {
    const Block block = pool.Allocate(1);
    std::memset(block.data(), 'x', 100);
    cord = MakeCord(block, absl::string_view(block.data() + 10, 20));
    EXPECT_EQ(cord.TryFlat()->data(), block.data() + 10);
  }
  EXPECT_EQ(pool.stats().used_bytes, 4 * kKiB);
  EXPECT_EQ(cord, std::string(20, 'x'));
  absl::Cord part = cord.Subcord(5, 5);
  cord.Clear();
  EXPECT_EQ(part, "xxxxx");
  part.Clear();
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

TEST(MakeCordTest, KeepsNothingForAnEmptyPart) {
  BufferPool pool;
  const absl::Cord cord = MakeCord(pool.Allocate(1), "");
  EXPECT_TRUE(cord.empty());
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

TEST_F(KeptInCacheTest, KeepsBlocksDroppedOnItsThread) {
  BufferPool pool;
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  const char* data = cache.Allocate(1).data();
  EXPECT_EQ(cache.Allocate(1).data(), data);
  EXPECT_EQ(pool.stats().heap_allocations, 1u);
  EXPECT_EQ(pool.stats().kept_bytes, 4 * kKiB);
}

TEST_F(KeptInCacheTest, LeavesBlocksDroppedElsewhereToThePool) {
  BufferPool pool;
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  Block block = cache.Allocate(1);
  const char* data = block.data();
  std::thread([block = std::move(block)]() mutable { block = Block(); }).join();
  EXPECT_EQ(pool.stats().kept_bytes, 4 * kKiB);
  EXPECT_EQ(pool.Allocate(1).data(), data);
}

TEST(BlockCacheTest, LeavesBlocksOfOtherPoolsToThem) {
  BufferPool pool;
  BufferPool other;
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  other.Allocate(1);
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
  EXPECT_EQ(other.stats().used_bytes, 0u);
}

TEST_F(KeptInCacheTest, PassesWhatIsTooMuchForItOnToThePool) {
  BufferPool pool;
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  std::vector<Block> blocks;
  blocks.reserve(100);
  for (int i = 0; i < 100; ++i) blocks.push_back(cache.Allocate(1));
  blocks.clear();
  EXPECT_EQ(pool.stats().kept_bytes, 400 * kKiB);
  // Somebody else gets most of them.
  for (int i = 0; i < 80; ++i) blocks.push_back(pool.Allocate(1));
  EXPECT_EQ(pool.stats().heap_allocations, 100u);
}

TEST_F(KeptInCacheTest, FlushGivesTheStockToThePool) {
  BufferPool pool({.max_age = absl::ZeroDuration()});
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  cache.Allocate(1);
  pool.Trim();
  EXPECT_EQ(pool.stats().kept_bytes, 4 * kKiB);
  cache.Flush();
  pool.Trim();
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
}

TEST_F(KeptInCacheTest, ReturnsItsStockWhenItEnds) {
  BufferPool pool;
  {
    BlockCache cache(pool);
    BlockCache::Binding binding(cache);
    cache.Allocate(1);
  }
  EXPECT_EQ(pool.stats().kept_bytes, 4 * kKiB);
  pool.Allocate(1);
  EXPECT_EQ(pool.stats().heap_allocations, 1u);
}

TEST_F(KeptInCacheTest, AnInnerBindingStandsInForTheOuter) {
  BufferPool pool;
  BlockCache outer(pool);
  BlockCache inner(pool);
  BlockCache::Binding outer_binding(outer);
  Block first = outer.Allocate(1);
  const char* data = first.data();
  {
    BlockCache::Binding inner_binding(inner);
    first = Block();
    EXPECT_EQ(inner.Allocate(1).data(), data);
  }
  EXPECT_NE(outer.Allocate(1).data(), data);
}

// Threads with caches hand blocks to one another; every block carries its sender's mark until it is dropped.
TEST(BlockCacheTest, ThreadsMayPassBlocksAround) {
  Random random;
  const uint64_t seed = random.Number(0, 1'000'000);
  BufferPool pool;
  absl::Mutex mutex;
  std::vector<Block> passed;
  const auto work = [&](uint64_t thread) {
    Random own(static_cast<uint32_t>(seed + thread));
    BlockCache cache(pool);
    BlockCache::Binding binding(cache);
    for (int i = 0; i < 2000; ++i) {
      Block block = cache.Allocate(own.Number(1, 64 * kKiB));
      block.data()[0] = static_cast<char>(i);
      const Block copy = block;
      absl::MutexLock lock(&mutex);
      passed.push_back(std::move(block));
      if (passed.size() > 20) passed.erase(passed.begin() + static_cast<ptrdiff_t>(own.Number(0, 20)));
      EXPECT_EQ(copy.data()[0], static_cast<char>(i));
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  passed.clear();
  EXPECT_EQ(pool.stats().used_bytes, 0u);
}

}  // namespace
}  // namespace ferry::transport
