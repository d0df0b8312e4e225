#include "ferry/transport/frame.h"

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using testing::HasSubstr;

std::string Encoded(const FrameHeader& header) {
  std::string bytes(kFrameHeaderSize, '\0');
  EncodeFrameHeader(header, bytes.data());
  return bytes;
}

// A REQUEST with a head of 2 bytes and a message of 3.
FrameHeader Request() {
  return {.length = 17,
          .type = FrameType::kRequest,
          .flags = kEndStream,
          .attr = MakeAttr(/*priority=*/1, /*codec=*/0),
          .head = 2,
          .stream = StreamId::Make(0x12345, 0x678)};
}
constexpr absl::string_view kRequestBody = "PREFIXPREFIXhdmsg";

FrameHeader RandomHeader(test::Random& random) {
  return {.length = static_cast<uint32_t>(random.Number(0, kMaxFrameLength)),
          .type = static_cast<FrameType>(random.Number(0, 255)),
          .flags = static_cast<uint8_t>(random.Number(0, 255)),
          .attr = static_cast<uint8_t>(random.Number(0, 255)),
          .head = static_cast<uint16_t>(random.Number(0, 65535)),
          .stream = StreamId(static_cast<uint32_t>(random.Number(0, 0xffffffff)))};
}

TEST(StreamIdTest, HoldsSlotAndGeneration) {  // [P3.9]
  const StreamId id = StreamId::Make(0xabcde, 0x123);
  EXPECT_EQ(id.value(), 0x123abcdeu);
  EXPECT_EQ(id.slot(), 0xabcdeu);
  EXPECT_EQ(id.generation(), 0x123u);
  EXPECT_EQ(kConnectionStream.value(), 0u);
}

TEST(StreamIdTest, NextKeepsTheSlotAndWrapsTheGeneration) {  // [P9.2]
  EXPECT_EQ(StreamId::Make(7, 0).Next(), StreamId::Make(7, 1));
  EXPECT_EQ(StreamId::Make(0xfffff, 4095).Next(), StreamId::Make(0xfffff, 0));
}

TEST(FrameHeaderTest, HasTheBytesOfThePicture) {  // [P3.1]
  EXPECT_EQ(Encoded(Request()), std::string("\x11\x00\x00\x02\x01\x01\x02\x00\x45\x23\x81\x67", 12));
}

TEST(FrameHeaderTest, DividesTheBody) {
  EXPECT_EQ(Request().prefix_size(), 12u);
  EXPECT_EQ(Request().message_size(), 3u);
  EXPECT_EQ(Request().priority(), 1);
  EXPECT_EQ((FrameHeader{.length = 5, .type = FrameType::kMessage, .attr = MakeAttr(2, 5)}).message_size(),
            5u);
  EXPECT_EQ((FrameHeader{.attr = MakeAttr(2, 5)}).priority(), 2);
  EXPECT_EQ((FrameHeader{.attr = MakeAttr(2, 5)}).codec(), 5);
}

TEST(FrameHeaderTest, AnyHeaderSurvivesTheWire) {
  test::Random random;
  for (int i = 0; i < 10'000; ++i) {
    const FrameHeader header = RandomHeader(random);
    const std::string bytes = Encoded(header);
    ASSERT_EQ(DecodeFrameHeader(bytes.data()), header);
    ASSERT_EQ(Encoded(DecodeFrameHeader(bytes.data())), bytes);
  }
}

TEST(FrameHeaderTest, AcceptsWhatReachesTheLimits) {  // [P3.2] [P3.3]
  const FrameLimits limits{.max_frame = 100, .max_head = 50};
  const FrameHeader kCases[] = {
      {.length = 100, .type = FrameType::kMessage},
      {.length = 50, .type = FrameType::kStatus, .flags = kEndStream, .head = 50},
      {.length = 12, .type = FrameType::kRequest, .flags = kEndStream},
      {.length = 62, .type = FrameType::kRequest, .flags = kEndStream, .head = 50},
      {.length = 0, .type = FrameType::kCancel, .stream = StreamId(0xffffffff)},
  };
  for (const FrameHeader& header : kCases) {
    EXPECT_TRUE(ValidateFrameHeader(header, limits).ok()) << ValidateFrameHeader(header, limits);
  }
}

TEST(FrameHeaderTest, IsValidExactlyIfNothingIsWrongWithItAndItsTypeIsKnown) {
  const FrameLimits limits{.max_frame = 100, .max_head = 50};
  int valid = 0;
  for (const uint32_t length : {0u, 11u, 12u, 13u, 50u, 62u, 99u, 100u, 101u, kMaxFrameLength}) {
    for (int type = 0; type <= 255; ++type) {
      for (const uint16_t head : {0, 1, 49, 50, 51, 88, 89, 0xffff}) {
        for (const int bits : {0x00, 0x01, 0x1f, 0x20, 0x40, 0x80, 0xff}) {
          for (const int attr : {0x00, 0x03, 0x1f, 0x20, 0x80}) {
            const FrameHeader header{.length = length,
                                     .type = static_cast<FrameType>(type),
                                     .flags = static_cast<uint8_t>(bits),
                                     .attr = static_cast<uint8_t>(attr),
                                     .head = head};
            const absl::Status why = ExplainFrameHeader(header, limits);
            ASSERT_EQ(IsValidFrameHeader(header, limits), why.ok() && !IsIgnorable(header.type))
                << "length " << length << ", type " << type << ", head " << head << ", flags " << bits
                << ", attr " << attr << ": " << why;
            ASSERT_EQ(ValidateFrameHeader(header, limits), why);
            valid += IsValidFrameHeader(header, limits);
          }
        }
      }
    }
  }
  EXPECT_GT(valid, 0);
}

TEST(FrameHeaderTest, IgnoresAllButTheLengthOfLaterTypes) {  // [P3.5]
  FrameHeader header{.length = 3, .type = FrameType{0x80}, .flags = 0xff, .attr = 0xff, .head = 0xffff};
  EXPECT_TRUE(ValidateFrameHeader(header, {}).ok());
  header.type = FrameType{0xff};
  EXPECT_TRUE(ValidateFrameHeader(header, {}).ok());
  header.length = 256 * 1024 + 1;
  EXPECT_THAT(std::string(ValidateFrameHeader(header, {}).message()),
              HasSubstr("frame length is 262145 bytes, limit is 262144"));
}

TEST(FrameHeaderTest, RejectsMalformedHeaders) {  // [P3.6]
  const FrameLimits limits{.max_frame = 100, .max_head = 50};
  constexpr auto kTooMuch = absl::StatusCode::kResourceExhausted;
  constexpr auto kMalformed = absl::StatusCode::kInternal;
  const struct {
    const char* name;
    FrameHeader header;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"length over the limit",
       {.length = 101, .type = FrameType::kMessage},
       kTooMuch,
       "frame length is 101 bytes, limit is 100"},
      {"greatest length", {.length = 0xffffff, .type = FrameType::kMessage}, kTooMuch, "is 16777215 bytes"},
      {"head over the limit",
       {.length = 60, .type = FrameType::kMessage, .head = 51},
       kTooMuch,
       "frame head is 51 bytes, limit is 50"},
      {"head longer than the frame",
       {.length = 20, .type = FrameType::kMessage, .head = 21},
       kMalformed,
       "frame length is 20 bytes, its prefix of 0 and head of 21 need 21"},
      {"no room for the prefix",
       {.length = 11, .type = FrameType::kRequest},
       kMalformed,
       "frame length is 11 bytes, its prefix of 12 and head of 0 need 12"},
      {"no room for prefix and head",
       {.length = 20, .type = FrameType::kRequest, .head = 9},
       kMalformed,
       "its prefix of 12 and head of 9 need 21"},
      {"type 0", {.type = FrameType{0}}, kMalformed, "frame type is 0, known types are 1 to 9"},
      {"first unknown type", {.type = FrameType{10}}, kMalformed, "frame type is 10,"},
      {"last required type", {.type = FrameType{127}}, kMalformed, "frame type is 127,"},
      {"reserved flags",
       {.type = FrameType::kPing, .flags = 0x21},
       kMalformed,
       "frame flags are 0x21, bits 0xe0 are reserved"},
      {"highest flag", {.type = FrameType::kPing, .flags = 0x80}, kMalformed, "0x80"},
      {"reserved attr",
       {.type = FrameType::kPing, .attr = 0x20},
       kMalformed,
       "frame attr is 0x20, bits 0xe0 are reserved"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = ValidateFrameHeader(c.header, limits);
    EXPECT_EQ(status.code(), c.code);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

// The quick check and the explanation must be of one opinion.
TEST(FrameHeaderTest, EveryRejectedHeaderIsExplained) {
  test::Random random;
  const FrameLimits limits{.max_frame = 1000, .max_head = 300};
  for (int i = 0; i < 100'000; ++i) {
    FrameHeader header = RandomHeader(random);
    if (random.Coin()) header.length %= 1100;
    if (random.Coin()) header.head %= 330;
    if (random.Coin()) header.type = static_cast<FrameType>(random.Number(0, 11));
    if (random.Coin()) header.flags &= 0x1f;
    if (random.Coin()) header.attr &= 0x1f;
    ASSERT_EQ(ValidateFrameHeader(header, limits), ExplainFrameHeader(header, limits)) << Encoded(header);
  }
}

TEST(TakeFrameTest, TakesOneFrameAndLeavesTheRest) {
  const std::string bytes = Encoded(Request()) + std::string(kRequestBody) + "next";
  absl::string_view input = bytes;
  const std::optional<Frame> frame = TakeFrame(&input, {}).value();
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->header, Request());
  EXPECT_EQ(frame->prefix(), "PREFIXPREFIX");
  EXPECT_EQ(frame->head(), "hd");
  EXPECT_EQ(frame->message(), "msg");
  EXPECT_EQ(input, "next");
}

TEST(TakeFrameTest, WaitsForEveryByte) {
  const std::string bytes = Encoded(Request()) + std::string(kRequestBody);
  for (size_t size = 0; size < bytes.size(); ++size) {
    absl::string_view input = absl::string_view(bytes).substr(0, size);
    const auto frame = TakeFrame(&input, {});
    ASSERT_TRUE(frame.ok()) << frame.status();
    EXPECT_FALSE(frame->has_value());
    EXPECT_EQ(input.size(), size);
  }
}

TEST(TakeFrameTest, RejectsAHeaderBeforeItsBody) {  // [P3.2]
  const std::string bytes = Encoded({.length = 300'000, .type = FrameType::kMessage});
  absl::string_view input = bytes;
  const auto frame = TakeFrame(&input, {});
  EXPECT_EQ(frame.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(frame.status().message()),
              HasSubstr("frame length is 300000 bytes, limit is 262144"));
  EXPECT_EQ(input.size(), bytes.size());
}

TEST(TakeFrameTest, HandsOverFramesOfLaterTypesToBeSkipped) {  // [P3.5]
  const std::string bytes = Encoded({.length = 2, .type = FrameType{200}, .head = 9}) + "xyrest";
  absl::string_view input = bytes;
  const std::optional<Frame> frame = TakeFrame(&input, {}).value();
  ASSERT_TRUE(frame.has_value());
  EXPECT_TRUE(IsIgnorable(frame->header.type));
  EXPECT_EQ(frame->body, "xy");
  EXPECT_EQ(input, "rest");
}

// Whatever the bytes: frames, or an error, or a wish for more; never a step outside the input.
TEST(TakeFrameTest, AnyBytesEndInOneOfThreeOutcomes) {
  test::Random random;
  for (int i = 0; i < 20'000; ++i) {
    const std::string bytes = random.Bytes(64);
    absl::string_view input = bytes;
    while (true) {
      const size_t before = input.size();
      const auto frame = TakeFrame(&input, FrameLimits{.max_frame = 20, .max_head = 10});
      if (!frame.ok() || !frame->has_value()) {
        ASSERT_EQ(input.size(), before);
        break;
      }
      ASSERT_EQ(input.size() + kFrameHeaderSize + (*frame)->header.length, before);
    }
  }
}

TEST(FrameTypeTest, NamesTypes) {
  EXPECT_EQ(FrameTypeName(FrameType::kSettings), "SETTINGS");
  EXPECT_EQ(FrameTypeName(FrameType::kDrain), "DRAIN");
  EXPECT_EQ(FrameTypeName(FrameType{77}), "type 77");
}

}  // namespace
}  // namespace ferry::transport
