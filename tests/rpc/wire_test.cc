// What is said of a connection and of requests.
#include "ferry/rpc/wire.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/rpc/wire_fixture.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using transport::FrameHeader;
using transport::FrameType;
using transport::kEndStream;

// ---- SETTINGS

TEST(SettingsTest, SurviveTheWire) {
  test::Random random;
  for (int i = 0; i < 1000; ++i) {
    const WireSettings settings{
        .max_frame = static_cast<uint32_t>(random.Number(81932, 0xffffff)),
        .max_head = static_cast<uint32_t>(random.Number(16384, 65535)),
        .max_message = random.Number(65536, 0x7fffffff),
        .max_streams = static_cast<uint32_t>(random.Number(2, 1 << 20)),
        .initial_stream_window = static_cast<uint32_t>(random.Number(65536, 0x7fffffff)),
        .initial_connection_window = static_cast<uint32_t>(random.Number(65536, 0x7fffffff)),
        .features = random.Number(0, std::numeric_limits<uint64_t>::max()),
        .codecs = static_cast<uint32_t>(random.Number(0, 0xffffffff))};
    ASSERT_EQ(DecodeSettings(EncodeSettings(settings)).value(), settings);
  }
}

TEST(SettingsTest, AbsentIsDefault) {  // [P5.5]
  EXPECT_EQ(DecodeSettings("").value(), WireSettings{});
}

TEST(SettingsTest, IgnoreFieldsOfLaterVersions) {  // [P5.1]
  EXPECT_EQ(DecodeSettings(absl::string_view("\xf8\x06\x2a", 3)).value(), WireSettings{});
}

TEST(SettingsTest, DefaultsAreTheDocuments) {
  const WireSettings defaults;
  EXPECT_TRUE(ValidateSettings(defaults).ok());
  EXPECT_EQ(defaults.max_frame, 262'144u);
  EXPECT_EQ(defaults.max_head, 16'384u);
  EXPECT_EQ(defaults.max_message, 67'108'864u);
  EXPECT_EQ(defaults.max_streams, 4'096u);
  EXPECT_EQ(defaults.initial_stream_window, 1'048'576u);
  EXPECT_EQ(defaults.initial_connection_window, 16'777'216u);
  EXPECT_EQ(defaults.frame_limits().max_frame, 262'144u);
  EXPECT_EQ(defaults.frame_limits().max_head, 16'384u);
}

TEST(SettingsTest, OutOfBoundsIsAnError) {  // [P5.5]
  const struct {
    const char* name;
    WireSettings settings;
    const char* message;
  } kCases[] = {
      {"max_frame too small", {.max_frame = 81'931}, "max_frame is 81931, it must be 81932 to 16777215"},
      {"max_frame too great", {.max_frame = 1 << 24}, "max_frame is 16777216,"},
      {"max_head too small", {.max_head = 16'383}, "max_head is 16383, it must be 16384 to 65535"},
      {"max_head too great", {.max_head = 65'536}, "max_head is 65536,"},
      {"max_message too small",
       {.max_message = 65'535},
       "max_message is 65535, it must be 65536 to 2147483647"},
      {"max_message too great", {.max_message = 1u << 31}, "max_message is 2147483648,"},
      {"max_streams too small", {.max_streams = 1}, "max_streams is 1, it must be 2 to 1048576"},
      {"max_streams too great", {.max_streams = (1 << 20) + 1}, "max_streams is 1048577,"},
      {"stream window too small",
       {.initial_stream_window = 1},
       "initial_stream_window is 1, it must be 65536 to"},
      {"connection window too great",
       {.initial_connection_window = 1u << 31},
       "initial_connection_window is 2147483648,"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    ExpectError(ValidateSettings(c.settings), absl::StatusCode::kInvalidArgument, c.message);
    ExpectError(DecodeSettings(EncodeSettings(c.settings)).status(), absl::StatusCode::kInternal,
                absl::StrCat("peer's setting ", c.message));
  }
}

TEST(SettingsTest, GarbageIsAnError) {  // [P5.2]
  ExpectError(DecodeSettings("\xff\xff\xff").status(), absl::StatusCode::kInternal,
              "settings head of 3 bytes does not parse");
}

// [P5.4]: a REQUEST with the greatest default head and the greatest fragment fits the least max_frame.
TEST(SettingsTest, LeastMaxFrameHoldsWhatIsSentEarly) {
  const WireSettings defaults;
  const FrameHeader header{
      .length = uint32_t{transport::kRequestPrefixSize} + defaults.max_head + kMaxFragment,
      .type = FrameType::kRequest,
      .flags = kEndStream,
      .head = static_cast<uint16_t>(defaults.max_head),
      .stream = kCall};
  const WireSettings least{.max_frame = header.length};
  EXPECT_TRUE(ValidateSettings(least).ok());
  EXPECT_TRUE(ValidateFrameHeader(header, least.frame_limits()).ok());
}

// ---- REQUEST prefix

TEST(RequestPrefixTest, HasTheBytesOfThePicture) {  // [P6.1]
  char bytes[transport::kRequestPrefixSize];
  EncodeRequestPrefix({.method = 0x0102030405060708, .timeout_us = 0x0a0b0c0d}, bytes);
  EXPECT_EQ(absl::string_view(bytes, sizeof(bytes)), "\x08\x07\x06\x05\x04\x03\x02\x01\x0d\x0c\x0b\x0a");
}

TEST(RequestPrefixTest, SurvivesTheWire) {
  test::Random random;
  for (int i = 0; i < 1000; ++i) {
    const RequestPrefix prefix{.method = random.Number(0, std::numeric_limits<uint64_t>::max()),
                               .timeout_us = static_cast<uint32_t>(random.Number(0, 0xffffffff))};
    char bytes[transport::kRequestPrefixSize];
    EncodeRequestPrefix(prefix, bytes);
    ASSERT_EQ(DecodeRequestPrefix(bytes), prefix);
  }
}

TEST(MethodIdTest, IsFnv1a) {  // [P6.2]
  EXPECT_EQ(MethodId(""), 0xcbf29ce484222325u);
  EXPECT_EQ(MethodId("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(MethodId("foobar"), 0x85944171f73967e8u);
}

TEST(TimeoutTest, ToWire) {  // [P6.4] [P6.5]
  const struct {
    const char* name;
    absl::Duration left;
    uint32_t timeout_us;
  } kCases[] = {
      {"no limit", absl::InfiniteDuration(), 0},
      {"1 microsecond", absl::Microseconds(1), 1},
      {"less than a microsecond", absl::Nanoseconds(1), 1},
      {"nothing left", absl::ZeroDuration(), 1},
      {"less than nothing left", absl::Seconds(-1), 1},
      {"long ago", -absl::InfiniteDuration(), 1},
      {"rounded down", absl::Nanoseconds(20'999), 20},
      {"20 milliseconds", absl::Milliseconds(20), 20'000},
      {"71 minutes", absl::Minutes(71), 4'260'000'000},
      {"the longest that fits", absl::Microseconds(0xfffffffe), 0xfffffffe},
      {"the shortest that does not", absl::Microseconds(0xffffffff), 0xffffffff},
      {"72 minutes", absl::Minutes(72), 0xffffffff},
      {"1000 years", absl::Hours(24 * 365 * 1000), 0xffffffff},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(TimeoutToWire(c.left), c.timeout_us);
  }
}

TEST(TimeoutTest, FromWire) {  // [P6.5]
  EXPECT_EQ(TimeoutFromWire(0), absl::InfiniteDuration());
  EXPECT_EQ(TimeoutFromWire(1), absl::Microseconds(1));
  EXPECT_EQ(TimeoutFromWire(4'260'000'000), absl::Minutes(71));
  EXPECT_EQ(TimeoutFromWire(0xfffffffe), absl::Microseconds(4'294'967'294));
  EXPECT_EQ(TimeoutFromWire(0xffffffff), absl::InfiniteDuration());
}

// ---- Metadata and heads

TEST(MetadataOnTheWireTest, KeepsOrderRepeatsAndAnyBytes) {  // [P8.1] [P8.2]
  const Metadata metadata = {{"b", std::string("\0\xff", 2)}, {"a", ""}, {"b", "again"}};
  const std::string bytes = EncodeRequestHead(metadata, 70'000, 16384).value();
  wire::RequestHead head;
  ASSERT_TRUE(ParseHead(bytes, "request head", head).ok());
  Metadata received;
  EXPECT_TRUE(ReadMetadata(head.metadata(), received).ok());
  EXPECT_EQ(received, metadata);
  EXPECT_EQ(head.message_length(), 70'000u);
}

TEST(MetadataOnTheWireTest, NothingToSayIsNoHead) {
  EXPECT_EQ(EncodeRequestHead({}, 0, 16384).value(), "");
  EXPECT_EQ(EncodeResponseHead({}, {}, 0, 16384).value(), "");
}

TEST(MetadataOnTheWireTest, FillsTheLimitExactly) {  // [P8.4]
  const Metadata metadata = {{"key", std::string(1000, 'v')}};
  const size_t size = EncodeRequestHead(metadata, 0, 16384).value().size();
  EXPECT_TRUE(EncodeRequestHead(metadata, 0, size).ok());
  ExpectError(EncodeRequestHead(metadata, 0, size - 1).status(), absl::StatusCode::kResourceExhausted,
              absl::StrCat("request head with its metadata is ", size, " bytes, limit is ", size - 1));
  ExpectError(EncodeResponseHead(metadata, metadata, 0, size).status(), absl::StatusCode::kResourceExhausted,
              absl::StrCat("response head with its metadata is ", 2 * size, " bytes, limit is ", size));
}

TEST(MetadataOnTheWireTest, SenderRefusesBadKeys) {  // [P8.1] [P8.3]
  ExpectError(EncodeRequestHead({{"A", ""}}, 0, 16384).status(), absl::StatusCode::kInvalidArgument, "\"A\"");
  ExpectError(EncodeResponseHead({{"ferry-x", ""}}, {}, 0, 16384).status(),
              absl::StatusCode::kInvalidArgument, "reserved");
  ExpectError(EncodeResponseHead({}, {{"", ""}}, 0, 16384).status(), absl::StatusCode::kInvalidArgument,
              "0 bytes");
}

TEST(MetadataOnTheWireTest, ReceiverRefusesBadKeys) {  // [P8.5]
  wire::RequestHead head;
  head.add_metadata()->set_key("fine");
  head.add_metadata()->set_key("Not fine");
  Metadata metadata;
  ExpectError(ReadMetadata(head.metadata(), metadata), absl::StatusCode::kInvalidArgument, "\"Not fine\"");
}

TEST(MetadataOnTheWireTest, ReceiverSkipsReservedKeys) {  // [P8.3]
  wire::RequestHead head;
  head.add_metadata()->set_key("ferry-later");
  head.add_metadata()->set_key("mine");
  Metadata metadata;
  EXPECT_TRUE(ReadMetadata(head.metadata(), metadata).ok());
  EXPECT_EQ(metadata, (Metadata{{"mine", ""}}));
}

TEST(AttemptTest, TheFirstCostsNothing) {  // [P6.11]
  EXPECT_EQ(HeadOfAttempt("", 1, 0), "");
  EXPECT_EQ(AttemptOf(""), 1);
}

TEST(AttemptTest, TakesThePlaceOfAnEarlierOne) {  // [P6.11]
  const std::string first = EncodeRequestHead({{"user", "ada"}}, 70'000, 16384).value();
  const std::string second = HeadOfAttempt(first, 2, 70'000);
  EXPECT_EQ(second.size(), first.size() + 2);
  EXPECT_EQ(AttemptOf(second), 2);
  EXPECT_EQ(HeadOfAttempt(second, 3, 70'000).size(), second.size());
  EXPECT_EQ(AttemptOf(HeadOfAttempt(second, 3, 70'000)), 3);
  EXPECT_EQ(HeadOfAttempt(second, 1, 70'000), first);
}

TEST(AttemptTest, KeepsWhatElseTheHeadSays) {
  wire::RequestHead head;
  const std::string first = EncodeRequestHead({{"user", "ada"}}, 0, 16384).value();
  ASSERT_TRUE(ParseHead(HeadOfAttempt(first, 2, 20'000), "request head", head).ok());
  EXPECT_EQ(head.message_length(), 20'000u);
  Metadata metadata;
  EXPECT_TRUE(ReadMetadata(head.metadata(), metadata).ok());
  EXPECT_EQ(metadata, (Metadata{{"user", "ada"}}));
}

TEST(AttemptTest, CountsToAThousand) {  // [P6.11]
  EXPECT_EQ(AttemptOf(HeadOfAttempt("", 1000, 0)), 1000);
  EXPECT_EQ(AttemptOf(HeadOfAttempt("", 1001, 0)), 1000);
}

TEST(AttemptTest, IsLeftOutOfAHeadThatIsFull) {  // [P6.11]
  Metadata metadata = {{"key", std::string(16'000, 'v')}};
  metadata.Add("rest", std::string(16'384 - EncodeRequestHead(metadata, 0, 16384)->size() - 12, 'v'));
  const std::string full = EncodeRequestHead(metadata, 0, 16384).value();
  ASSERT_GT(full.size() + 2, 16'384u);
  EXPECT_EQ(HeadOfAttempt(full, 2, 0), full);
}

TEST(AttemptTest, OfAPeerIsBounded) {  // [P6.11]
  wire::RequestHead head;
  EXPECT_EQ(ReadAttempt(head).value(), 1);
  head.set_attempt(1000);
  EXPECT_EQ(ReadAttempt(head).value(), 1000);
  head.set_attempt(1001);
  ExpectError(ReadAttempt(head).status(), absl::StatusCode::kInternal, "attempt is 1001, limit is 1000");
  head.set_attempt(0xffffffff);
  ExpectError(ReadAttempt(head).status(), absl::StatusCode::kInternal,
              "attempt is 4294967295, limit is 1000");
}

TEST(HeadTest, GarbageIsAnError) {  // [P5.2]
  wire::RequestHead head;
  ExpectError(ParseHead("\x0a", "request head", head), absl::StatusCode::kInternal,
              "request head of 1 bytes does not parse");
}

TEST(HeadTest, AnyBytesParseOrDoNot) {
  test::Random random;
  for (int i = 0; i < 20'000; ++i) {
    const std::string bytes = random.Bytes(40);
    (void)DecodeSettings(bytes);
    (void)DecodeStatusHead(bytes);
    wire::RequestHead head;
    Metadata metadata;
    if (ParseHead(bytes, "head", head).ok()) (void)ReadMetadata(head.metadata(), metadata);
  }
}

}  // namespace
}  // namespace ferry
