#include "ferry/transport/frame_assembler.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr FrameLimits kLimits = {.max_frame = 256 * 1024, .max_head = 1024};

// A MESSAGE with `body` as its message.
std::string MessageFrame(absl::string_view body) {
  std::string bytes(kFrameHeaderSize, '\0');
  EncodeFrameHeader({.length = static_cast<uint32_t>(body.size()), .type = FrameType::kMessage},
                    bytes.data());
  return absl::StrCat(bytes, body);
}

std::string Header(const FrameHeader& header) {
  std::string bytes(kFrameHeaderSize, '\0');
  EncodeFrameHeader(header, bytes.data());
  return bytes;
}

class FrameAssemblerTest : public testing::Test {
 protected:
  // Hands `piece` over and appends the bodies of the frames it completes to bodies_.
  absl::Status Feed(absl::string_view piece) {
    for (;;) {
      absl::StatusOr<std::optional<Frame>> frame = assembler_.Next(&piece);
      if (!frame.ok()) return frame.status();
      if (!frame->has_value()) break;
      bodies_.emplace_back((*frame)->body);
    }
    EXPECT_TRUE(piece.empty());
    return absl::OkStatus();
  }

  // The same, of which as much as fits goes through Room().
  absl::Status FeedThroughRoom(absl::string_view piece) {
    const absl::Span<char> room = assembler_.Room();
    const size_t in_room = std::min(room.size(), piece.size());
    std::copy_n(piece.begin(), in_room, room.begin());
    assembler_.Filled(in_room);
    return Feed(piece.substr(in_room));
  }

  size_t held() { return pool_.stats().used_bytes; }

  BufferPool pool_;
  BlockCache blocks_{pool_};
  FrameAssembler assembler_{kLimits, blocks_};
  std::vector<std::string> bodies_;
};

TEST_F(FrameAssemblerTest, TakesEveryFrameOfAPiece) {
  EXPECT_TRUE(Feed(MessageFrame("one") + MessageFrame("") + MessageFrame("three")).ok());
  EXPECT_THAT(bodies_, ElementsAre("one", "", "three"));
  EXPECT_FALSE(assembler_.partial());
}

TEST_F(FrameAssemblerTest, HandsWholeFramesOutInPlace) {
  const std::string bytes = MessageFrame("in place");
  absl::string_view input = bytes;
  absl::StatusOr<std::optional<Frame>> frame = assembler_.Next(&input);
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_EQ((*frame)->body.data(), bytes.data() + kFrameHeaderSize);
  EXPECT_EQ(held(), 0u);
}

TEST_F(FrameAssemblerTest, TakesInPlaceWhatIsWholeAndValidAndNothingElse) {
  const struct {
    const char* name;
    std::string input;
    bool taken;
  } kCases[] = {
      {"nothing", "", false},
      {"less than a header", MessageFrame("").substr(0, kFrameHeaderSize - 1), false},
      {"a frame without a body", MessageFrame(""), true},
      {"a frame", MessageFrame("body"), true},
      {"a frame and the beginning of the next", MessageFrame("body") + "x", true},
      {"a header only", MessageFrame("body").substr(0, kFrameHeaderSize), false},
      {"all but the last byte", MessageFrame("body").substr(0, kFrameHeaderSize + 3), false},
      {"a frame too long", Header({.length = kLimits.max_frame + 1, .type = FrameType::kMessage}), false},
      {"a malformed header", Header({.type = FrameType::kPing, .flags = 0x20}), false},
      {"an ignorable type", Header({.type = FrameType{0x80}}), false},
      {"an unknown type", Header({.type = FrameType{0}}), false},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    absl::string_view input = c.input;
    Frame frame;
    ASSERT_EQ(assembler_.TakeInPlace(&input, frame), c.taken);
    if (!c.taken) {
      EXPECT_EQ(input, c.input) << "it must be left to Next";
      continue;
    }
    EXPECT_EQ(frame.header, DecodeFrameHeader(c.input.data()));
    EXPECT_EQ(frame.body.data(), c.input.data() + kFrameHeaderSize);
    EXPECT_EQ(frame.body.size(), frame.header.length);
    EXPECT_EQ(input, absl::string_view(c.input).substr(kFrameHeaderSize + frame.header.length));
  }
}

TEST_F(FrameAssemblerTest, TakesNothingInPlaceWhileSomethingIsKept) {
  const std::string first = MessageFrame("first");
  const std::string second = MessageFrame("second");
  ASSERT_TRUE(Feed(absl::string_view(first).substr(0, 3)).ok());
  const std::string piece = first.substr(3) + second;
  absl::string_view input = piece;
  Frame frame;
  EXPECT_FALSE(assembler_.TakeInPlace(&input, frame));
  absl::StatusOr<std::optional<Frame>> kept = assembler_.Next(&input);
  ASSERT_TRUE(kept.ok() && kept->has_value());
  // The frame that was put together is still being read: only Next drops it.
  EXPECT_FALSE(assembler_.TakeInPlace(&input, frame));
  EXPECT_EQ((*kept)->body, "first");
  absl::StatusOr<std::optional<Frame>> next = assembler_.Next(&input);
  ASSERT_TRUE(next.ok() && next->has_value());
  EXPECT_EQ((*next)->body, "second");
  input = second;
  EXPECT_TRUE(assembler_.TakeInPlace(&input, frame));
}

TEST_F(FrameAssemblerTest, PutsFramesTogetherThatWereCutAnywhere) {
  const std::string bytes = MessageFrame("first") + MessageFrame("second one") + MessageFrame("");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    bodies_.clear();
    EXPECT_TRUE(Feed(absl::string_view(bytes).substr(0, cut)).ok());
    EXPECT_TRUE(Feed(absl::string_view(bytes).substr(cut)).ok());
    EXPECT_THAT(bodies_, ElementsAre("first", "second one", ""));
    EXPECT_FALSE(assembler_.partial());
  }
}

TEST_F(FrameAssemblerTest, PutsFramesTogetherThatWereCutAnywhereAndReadIntoTheRoom) {
  const std::string bytes = MessageFrame("first") + MessageFrame("second one") + MessageFrame("");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    bodies_.clear();
    EXPECT_TRUE(FeedThroughRoom(absl::string_view(bytes).substr(0, cut)).ok());
    EXPECT_TRUE(FeedThroughRoom(absl::string_view(bytes).substr(cut)).ok());
    EXPECT_THAT(bodies_, ElementsAre("first", "second one", ""));
  }
}

TEST_F(FrameAssemblerTest, TakesOneByteAtATime) {
  const std::string bytes = MessageFrame("slow") + MessageFrame("") + MessageFrame("slower");
  for (char byte : bytes) EXPECT_TRUE(Feed({&byte, 1}).ok());
  EXPECT_THAT(bodies_, ElementsAre("slow", "", "slower"));
  EXPECT_FALSE(assembler_.partial());
}

TEST_F(FrameAssemblerTest, HasNoRoomBeforeAHeaderIsWhole) {
  EXPECT_TRUE(assembler_.Room().empty());
  const std::string bytes = MessageFrame("body");
  EXPECT_TRUE(Feed(bytes.substr(0, kFrameHeaderSize - 1)).ok());
  EXPECT_TRUE(assembler_.Room().empty());
  EXPECT_TRUE(Feed(bytes.substr(kFrameHeaderSize - 1, 1)).ok());
  EXPECT_EQ(assembler_.Room().size(), 4u);
}

TEST_F(FrameAssemblerTest, HasNoRoomBehindAWholeFrame) {
  const std::string bytes = MessageFrame("body");
  EXPECT_TRUE(Feed(bytes.substr(0, 14)).ok());
  absl::string_view rest = absl::string_view(bytes).substr(14);
  absl::StatusOr<std::optional<Frame>> frame = assembler_.Next(&rest);
  ASSERT_TRUE(frame.ok() && frame->has_value());
  EXPECT_TRUE(assembler_.Room().empty());
  EXPECT_EQ((*frame)->body, "body");
}

TEST_F(FrameAssemblerTest, TellsHowMuchOfAFrameIsThere) {
  const std::string bytes = MessageFrame("body");
  EXPECT_FALSE(assembler_.partial());
  EXPECT_TRUE(Feed(bytes.substr(0, 5)).ok());
  EXPECT_TRUE(assembler_.partial());
  EXPECT_EQ(assembler_.Progress(), "5 of 12 bytes of its header");
  EXPECT_TRUE(FeedThroughRoom(bytes.substr(5, 9)).ok());
  EXPECT_EQ(assembler_.Progress(), "14 of 16 bytes");
  EXPECT_TRUE(FeedThroughRoom(bytes.substr(14)).ok());
  EXPECT_FALSE(assembler_.partial());
}

TEST_F(FrameAssemblerTest, KeepsNoRoomForWhatIsOnlyAnnounced) {
  EXPECT_TRUE(Feed(Header({.length = kLimits.max_frame, .type = FrameType::kMessage})).ok());
  EXPECT_LE(assembler_.Room().size(), BufferPool::kMinBlock);
  EXPECT_LE(held(), BufferPool::kMinBlock);
}

TEST_F(FrameAssemblerTest, HoldsAtMostFourTimesWhatWasSent) {
  const std::string bytes = MessageFrame(std::string(kLimits.max_frame, 'x'));
  size_t sent = 0;
  while (sent < bytes.size()) {
    const size_t size = std::min<size_t>(1000, bytes.size() - sent);
    EXPECT_TRUE(FeedThroughRoom(absl::string_view(bytes).substr(sent, size)).ok());
    sent += size;
    ASSERT_LE(held(), 4 * sent + BufferPool::kMinBlock);
  }
  EXPECT_EQ(bodies_.size(), 1u);
}

TEST_F(FrameAssemblerTest, HoldsNothingBetweenFrames) {
  const std::string bytes = MessageFrame(std::string(100'000, 'x'));
  EXPECT_TRUE(Feed(bytes.substr(0, 50'000)).ok());
  EXPECT_GT(held(), 0u);
  EXPECT_TRUE(Feed(bytes.substr(50'000)).ok());
  EXPECT_EQ(held(), 0u);
}

TEST_F(FrameAssemblerTest, RefusesAFrameAsSoonAsItsHeaderIsThere) {
  struct Case {
    const char* name;
    FrameHeader header;
    absl::StatusCode code;
    const char* message;
  };
  const Case kCases[] = {
      {"too long",
       {.length = 300'000, .type = FrameType::kMessage},
       absl::StatusCode::kResourceExhausted,
       "frame length is 300000 bytes, limit is 262144"},
      {"too long and ignorable",
       {.length = 300'000, .type = FrameType{200}},
       absl::StatusCode::kResourceExhausted,
       "frame length is 300000 bytes, limit is 262144"},
      {"unknown type",
       {.length = 10, .type = FrameType{77}},
       absl::StatusCode::kInternal,
       "frame type is 77"},
      {"head too long",
       {.length = 5000, .type = FrameType::kMessage, .head = 2000},
       absl::StatusCode::kResourceExhausted,
       "frame head is 2000 bytes, limit is 1024"},
  };
  for (const Case& c : kCases) {
    for (size_t cut = 0; cut <= kFrameHeaderSize; ++cut) {
      SCOPED_TRACE(absl::StrCat(c.name, ", cut at ", cut));
      FrameAssembler assembler(kLimits, blocks_);
      const std::string header = Header(c.header);
      absl::string_view first = absl::string_view(header).substr(0, cut);
      absl::string_view second = absl::string_view(header).substr(cut);
      absl::StatusOr<std::optional<Frame>> frame = assembler.Next(&first);
      if (cut < kFrameHeaderSize) {
        ASSERT_TRUE(frame.ok()) << frame.status();
        EXPECT_FALSE(frame->has_value());
        frame = assembler.Next(&second);
      }
      EXPECT_EQ(frame.status().code(), c.code);
      EXPECT_THAT(std::string(frame.status().message()), HasSubstr(c.message));
      EXPECT_LE(held(), BufferPool::kMinBlock);
    }
  }
}

TEST_F(FrameAssemblerTest, GoesOnRefusing) {
  const std::string bad = Header({.length = 10, .type = FrameType{77}});
  EXPECT_TRUE(Feed(bad.substr(0, 3)).ok());
  EXPECT_FALSE(Feed(bad.substr(3)).ok());
  EXPECT_FALSE(Feed("0123456789").ok());
  EXPECT_FALSE(Feed(MessageFrame("good")).ok());
  EXPECT_THAT(bodies_, ElementsAre());
}

TEST_F(FrameAssemblerTest, PutsAnyFramesTogetherFromAnyPieces) {
  test::Random random;
  for (int round = 0; round < 100; ++round) {
    std::string bytes;
    std::vector<std::string> expected;
    for (uint64_t frames = random.Number(1, 40); frames > 0; --frames) {
      expected.push_back(random.Bytes(random.Number(0, 9) == 0 ? 60'000 : 100));
      bytes += MessageFrame(expected.back());
    }
    bodies_.clear();
    absl::string_view left = bytes;
    size_t sent = 0;
    while (!left.empty()) {
      const absl::string_view piece = left.substr(0, random.Number(1, random.Coin() ? 30 : 20'000));
      ASSERT_TRUE((random.Coin() ? Feed(piece) : FeedThroughRoom(piece)).ok());
      left.remove_prefix(piece.size());
      sent += piece.size();
      ASSERT_LE(held(), 4 * sent + BufferPool::kMinBlock);
    }
    ASSERT_THAT(bodies_, ElementsAreArray(expected));
    ASSERT_FALSE(assembler_.partial());
  }
}

}  // namespace
}  // namespace ferry::transport
