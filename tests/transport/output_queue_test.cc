#include "ferry/transport/output_queue.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using testing::ElementsAre;

class OutputQueueTest : public testing::Test {
 protected:
  void Gather(absl::string_view bytes) { Gather(bytes, queue_); }
  void Gather(absl::string_view bytes, OutputQueue& queue) {
    char* room = queue.Append(bytes.size(), [this](size_t size) { return Allocate(size); });
    std::copy(bytes.begin(), bytes.end(), room);
  }

  // Appends `bytes` by reference to a block of their own.
  void Refer(absl::string_view bytes) { Refer(bytes, queue_); }
  void Refer(absl::string_view bytes, OutputQueue& queue) {
    Block block = pool_.Allocate(bytes.size());
    std::copy(bytes.begin(), bytes.end(), block.data());
    const absl::string_view part(block.data(), bytes.size());
    queue.Append(std::move(block), part);
  }

  // The first `most` pieces.
  std::vector<std::string> Pieces(size_t most = 64) const {
    std::vector<iovec> parts(most);
    parts.resize(queue_.Peek(absl::MakeSpan(parts)));
    std::vector<std::string> pieces;
    pieces.reserve(parts.size());
    for (const iovec& part : parts)
      pieces.emplace_back(static_cast<const char*>(part.iov_base), part.iov_len);
    return pieces;
  }

  Block Allocate(size_t size) {
    ++allocations_;
    return pool_.Allocate(size);
  }

  BufferPool pool_;
  OutputQueue queue_;
  int allocations_ = 0;
};

TEST_F(OutputQueueTest, IsEmptyAtFirst) {
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.bytes(), 0u);
  EXPECT_THAT(Pieces(), ElementsAre());
}

TEST_F(OutputQueueTest, GathersSmallAppendsIntoOnePiece) {
  Gather("one ");
  Gather("two ");
  Gather("three");
  EXPECT_THAT(Pieces(), ElementsAre("one two three"));
  EXPECT_EQ(queue_.bytes(), 13u);
  EXPECT_EQ(allocations_, 1);
}

TEST_F(OutputQueueTest, KeepsTheOrderOfGatheredAndReferredBytes) {
  Gather("header");
  Refer("message");
  Gather("next ");
  Gather("header");
  Refer("next message");
  EXPECT_THAT(Pieces(), ElementsAre("header", "message", "next header", "next message"));
  EXPECT_EQ(allocations_, 1);
}

TEST_F(OutputQueueTest, RefersWithoutCopying) {
  const Block block = pool_.Allocate(100);
  queue_.Append(block, absl::string_view(block.data() + 10, 20));
  iovec part;
  ASSERT_EQ(queue_.Peek({&part, 1}), 1u);
  EXPECT_EQ(part.iov_base, block.data() + 10);
  EXPECT_EQ(part.iov_len, 20u);
}

TEST_F(OutputQueueTest, HoldsABlockUntilItsBytesAreDropped) {
  const Block block = pool_.Allocate(100);
  queue_.Append(block, absl::string_view(block.data(), 100));
  Gather("behind");
  EXPECT_FALSE(block.unique());
  queue_.Drop(99);
  EXPECT_FALSE(block.unique());
  queue_.Drop(1);
  EXPECT_TRUE(block.unique());
}

TEST_F(OutputQueueTest, GivesItsMemoryBackWhenItIsIdle) {
  Gather("some");
  Refer("thing");
  queue_.Drop(9);
  EXPECT_TRUE(queue_.empty());
  queue_.ReleaseIdle();
  EXPECT_EQ(pool_.stats().used_bytes, 0u);
}

TEST_F(OutputQueueTest, ForgetsEverythingWhenCleared) {
  Gather("some");
  Refer("thing");
  queue_.Clear();
  EXPECT_TRUE(queue_.empty());
  EXPECT_THAT(Pieces(), ElementsAre());
  EXPECT_EQ(pool_.stats().used_bytes, 0u);
  Gather("new");
  EXPECT_THAT(Pieces(), ElementsAre("new"));
}

TEST_F(OutputQueueTest, ShowsNoMorePiecesThanFit) {
  for (const char* bytes : {"a", "b", "c", "d"}) Refer(bytes);
  EXPECT_THAT(Pieces(3), ElementsAre("a", "b", "c"));
  queue_.Drop(2);
  EXPECT_THAT(Pieces(3), ElementsAre("c", "d"));
}

TEST_F(OutputQueueTest, DropsAcrossPieces) {
  Gather("0123");
  Refer("4567");
  Gather("89");
  queue_.Drop(6);
  EXPECT_THAT(Pieces(), ElementsAre("67", "89"));
  EXPECT_EQ(queue_.bytes(), 4u);
}

TEST_F(OutputQueueTest, GathersBehindAPieceThatIsHalfWritten) {
  Gather("01234567");
  queue_.Drop(5);
  Gather("89");
  EXPECT_THAT(Pieces(), ElementsAre("56789"));
}

TEST_F(OutputQueueTest, MovesNoBytesThatWereAppended) {
  Gather("first");
  iovec before;
  ASSERT_EQ(queue_.Peek({&before, 1}), 1u);
  for (int i = 0; i < 10'000; ++i) Gather("more and more");
  iovec after;
  ASSERT_EQ(queue_.Peek({&after, 1}), 1u);
  EXPECT_EQ(after.iov_base, before.iov_base);
  EXPECT_EQ(std::memcmp(before.iov_base, "first", 5), 0);
}

TEST_F(OutputQueueTest, GathersWhatIsLargerThanAGatheringBlockContiguously) {
  const std::string large(100'000, 'x');
  Gather("small");
  Gather(large);
  EXPECT_THAT(Pieces(), ElementsAre("small", large));
}

TEST_F(OutputQueueTest, ShowsNoEmptyPieces) {
  Gather("");
  EXPECT_THAT(Pieces(), ElementsAre());
  Refer("a");
  Gather("");
  queue_.Append(Block(), "");
  Refer("b");
  EXPECT_THAT(Pieces(), ElementsAre("a", "b"));
}

TEST_F(OutputQueueTest, StaysShortHoweverLongItStaysBusy) {
  Gather("never empty");
  for (int i = 0; i < 10'000; ++i) {
    Refer("in");
    queue_.Drop(2);
  }
  EXPECT_EQ(queue_.bytes(), 11u);
  EXPECT_LE(pool_.stats().used_bytes, 20 * BufferPool::kMinBlock);
}

TEST_F(OutputQueueTest, TakesAllOfAnother) {
  struct Case {
    const char* name;
    std::vector<std::string> before;
    std::vector<std::string> taken;
    size_t dropped_of_taken;
    std::vector<std::string> pieces;
  };
  const Case kCases[] = {
      {"nothing into nothing", {}, {}, 0, {}},
      {"nothing into something", {"a", "ref b"}, {}, 0, {"a", "ref b"}},
      {"something into nothing", {}, {"a", "ref b"}, 0, {"a", "ref b"}},
      {"something behind something", {"ref a", "b"}, {"c", "ref d"}, 0, {"ref a", "b", "c", "ref d"}},
      {"what is left into nothing", {}, {"ref abc", "ref def", "ghi"}, 6, {"c", "ref def", "ghi"}},
      {"what is left behind something", {"a"}, {"ref bcd", "ref efg", "hij"}, 9, {"a", "f efg", "hij"}},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    queue_.Clear();
    OutputQueue other;
    const auto append = [this](const std::vector<std::string>& pieces, OutputQueue& queue) {
      for (const std::string& piece : pieces)
        piece.starts_with("ref") ? Refer(piece, queue) : Gather(piece, queue);
    };
    append(c.before, queue_);
    append(c.taken, other);
    other.Drop(c.dropped_of_taken);
    const size_t bytes = queue_.bytes() + other.bytes();
    queue_.TakeAll(other);
    EXPECT_EQ(Pieces(), c.pieces);
    EXPECT_EQ(queue_.bytes(), bytes);
    EXPECT_TRUE(other.empty());
    // Both go on, and neither writes into what is the other's.
    Gather("more", queue_);
    Gather("other", other);
    std::string expected;
    for (const std::string& piece : c.pieces) expected += piece;
    std::string all;
    for (const std::string& piece : Pieces()) all += piece;
    EXPECT_EQ(all, expected + "more");
    queue_.Clear();
    queue_.TakeAll(other);
    EXPECT_THAT(Pieces(), ElementsAre("other"));
  }
}

TEST_F(OutputQueueTest, TakesAllWithoutMovingBytes) {
  OutputQueue other;
  for (const bool into_nothing : {true, false}) {
    SCOPED_TRACE(into_nothing);
    queue_.Clear();
    if (!into_nothing) Gather("before");
    Gather("taken", other);
    iovec before;
    ASSERT_EQ(other.Peek({&before, 1}), 1u);
    queue_.TakeAll(other);
    iovec parts[2];
    const size_t count = queue_.Peek(parts);
    ASSERT_EQ(count, into_nothing ? 1u : 2u);
    EXPECT_EQ(parts[count - 1].iov_base, before.iov_base);
  }
}

TEST_F(OutputQueueTest, KeepsGatheringWithoutAllocatingWhenTwoSwap) {
  // As a connection does: one queue is filled while the other is written.
  OutputQueue filled;
  for (int batch = 0; batch < 100; ++batch) {
    for (int i = 0; i < 10; ++i) Gather("frame", filled);
    queue_.TakeAll(filled);
    EXPECT_EQ(queue_.bytes(), 50u);
    queue_.Drop(50);
  }
  EXPECT_EQ(allocations_, 2);
}

TEST_F(OutputQueueTest, IsAQueueOfBytesWhateverIsDoneWithIt) {
  test::Random random;
  std::string expected;
  for (int i = 0; i < 20'000; ++i) {
    const std::string bytes = random.Bytes(random.Number(0, 9) == 0 ? 40'000 : 200);
    switch (random.Number(0, 4)) {
      case 4: {
        // By way of another queue, of which the front was dropped.
        OutputQueue other;
        Gather("dropped" + bytes, other);
        Refer(bytes, other);
        other.Drop(7);
        queue_.TakeAll(other);
        expected += bytes + bytes;
        break;
      }
      case 0:
        Gather(bytes);
        expected += bytes;
        break;
      case 1:
        Refer(bytes);
        expected += bytes;
        break;
      case 2: {
        const size_t size = random.Number(0, expected.size());
        queue_.Drop(size);
        expected.erase(0, size);
        break;
      }
      case 3:
        std::string shown;
        for (const std::string& piece : Pieces(random.Number(1, 64))) {
          ASSERT_FALSE(piece.empty());
          shown += piece;
        }
        ASSERT_EQ(shown.empty(), expected.empty());
        ASSERT_TRUE(expected.starts_with(shown));
        break;
    }
    ASSERT_EQ(queue_.bytes(), expected.size());
    if (expected.size() > 1'000'000) {
      queue_.Clear();
      expected.clear();
    }
  }
}

}  // namespace
}  // namespace ferry::transport
