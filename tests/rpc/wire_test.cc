#include "ferry/rpc/wire.h"

#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

using testing::HasSubstr;
using transport::FrameHeader;
using transport::FrameType;
using transport::kAck;
using transport::kAttachment;
using transport::kCompressed;
using transport::kEndStream;
using transport::kMore;
using transport::MakeAttr;
using transport::StreamId;

constexpr StreamId kCall = StreamId::Make(1, 0);

void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code);
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

// ---- Frames

TEST(CheckFrameUseTest, AcceptsTheTable) {  // [P4.1]
  const struct {
    const char* name;
    FrameHeader header;
    Side sender;
    uint64_t features = 0;
  } kCases[] = {
      {"SETTINGS", {.length = 9, .type = FrameType::kSettings, .head = 9}, Side::kServer},
      {"unary REQUEST",
       {.length = 20, .type = FrameType::kRequest, .flags = kEndStream, .stream = kCall},
       Side::kClient},
      {"REQUEST with an empty message",
       {.length = 12, .type = FrameType::kRequest, .flags = kEndStream, .stream = kCall},
       Side::kClient},
      {"first fragment",
       {.length = 13, .type = FrameType::kRequest, .flags = kMore, .stream = kCall},
       Side::kClient},
      {"REQUEST of a stream",
       {.length = 15, .type = FrameType::kRequest, .head = 3, .stream = kCall},
       Side::kClient},
      {"MESSAGE from a client", {.length = 5, .type = FrameType::kMessage, .stream = kCall}, Side::kClient},
      {"MESSAGE from a server",
       {.length = 5, .type = FrameType::kMessage, .flags = kMore, .stream = kCall},
       Side::kServer},
      {"end of a stream", {.type = FrameType::kMessage, .flags = kEndStream, .stream = kCall}, Side::kClient},
      {"RESPONSE", {.type = FrameType::kResponse, .flags = kEndStream, .stream = kCall}, Side::kServer},
      {"STATUS of a call",
       {.length = 2, .type = FrameType::kStatus, .flags = kEndStream, .head = 2, .stream = kCall},
       Side::kServer},
      {"STATUS of the connection from a client",
       {.length = 2, .type = FrameType::kStatus, .flags = kEndStream, .head = 2},
       Side::kClient},
      {"CANCEL", {.type = FrameType::kCancel, .stream = kCall}, Side::kClient},
      {"WINDOW of a call",
       {.length = 2, .type = FrameType::kWindow, .head = 2, .stream = kCall},
       Side::kServer},
      {"WINDOW of the connection", {.length = 2, .type = FrameType::kWindow, .head = 2}, Side::kClient},
      {"PING", {.length = 8, .type = FrameType::kPing}, Side::kClient},
      {"answer to PING", {.length = 8, .type = FrameType::kPing, .flags = kAck}, Side::kServer},
      {"DRAIN", {.length = 2, .type = FrameType::kDrain, .head = 2}, Side::kServer},
      {"COMPRESSED",
       {.length = 5,
        .type = FrameType::kMessage,
        .flags = kCompressed,
        .attr = MakeAttr(0, 1),
        .stream = kCall},
       Side::kClient,
       kCompressionFeature},
      {"ATTACHMENT",
       {.length = 5, .type = FrameType::kMessage, .flags = kAttachment, .stream = kCall},
       Side::kClient,
       kAttachmentsFeature},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(ValidateFrameHeader(c.header, {}).ok());
    const absl::Status status = CheckFrameUse(c.header, c.sender, c.features);
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(CheckFrameUseTest, RejectsWhatTheTableDoesNotHave) {  // [P4.1] [P4.2] [P3.8] [P3.9] [P5.8]
  const struct {
    const char* name;
    FrameHeader header;
    Side sender;
    const char* message;
  } kCases[] = {
      {"slot 0 with a generation",
       {.length = 8, .type = FrameType::kPing, .stream = StreamId::Make(0, 3)},
       Side::kClient,
       "PING frame is on slot 0 with generation 3"},
      {"SETTINGS on a call",
       {.type = FrameType::kSettings, .stream = kCall},
       Side::kClient,
       "SETTINGS frame is on slot 1, it must be on stream 0"},
      {"REQUEST on the connection",
       {.length = 12, .type = FrameType::kRequest, .flags = kEndStream},
       Side::kClient,
       "REQUEST frame is on stream 0"},
      {"REQUEST from a server",
       {.length = 12, .type = FrameType::kRequest, .flags = kEndStream, .stream = kCall},
       Side::kServer,
       "REQUEST frame is from a server"},
      {"RESPONSE from a client",
       {.type = FrameType::kResponse, .flags = kEndStream, .stream = kCall},
       Side::kClient,
       "RESPONSE frame on a call is from a client"},
      {"STATUS of a call from a client",
       {.type = FrameType::kStatus, .flags = kEndStream, .stream = kCall},
       Side::kClient,
       "STATUS frame on a call is from a client"},
      {"CANCEL from a server",
       {.type = FrameType::kCancel, .stream = kCall},
       Side::kServer,
       "CANCEL frame is from"},
      {"RESPONSE that ends nothing",
       {.type = FrameType::kResponse, .stream = kCall},
       Side::kServer,
       "RESPONSE frame has neither END_STREAM nor MORE"},
      {"STATUS without END_STREAM",
       {.type = FrameType::kStatus, .stream = kCall},
       Side::kServer,
       "lacks END_STREAM"},
      {"END_STREAM and MORE",
       {.length = 13, .type = FrameType::kRequest, .flags = kEndStream | kMore, .stream = kCall},
       Side::kClient,
       "has both END_STREAM and MORE"},
      {"MORE and nothing",
       {.type = FrameType::kMessage, .flags = kMore, .stream = kCall},
       Side::kClient,
       "has MORE and no message bytes"},
      {"ACK on a MESSAGE",
       {.type = FrameType::kMessage, .flags = kAck, .stream = kCall},
       Side::kClient,
       "MESSAGE frame has flags 0x10, it may have only 0x0f"},
      {"message bytes before a stream",
       {.length = 13, .type = FrameType::kRequest, .stream = kCall},
       Side::kClient,
       "REQUEST frame has 1 message bytes"},
      {"CANCEL with a head",
       {.length = 3, .type = FrameType::kCancel, .head = 3, .stream = kCall},
       Side::kClient,
       "CANCEL frame has a head of 3 bytes, it must have none"},
      {"CANCEL with bytes",
       {.length = 3, .type = FrameType::kCancel, .stream = kCall},
       Side::kClient,
       "CANCEL frame has 3 bytes after its head, it must have 0"},
      {"short PING",
       {.length = 7, .type = FrameType::kPing},
       Side::kClient,
       "PING frame has 7 bytes after its head"},
      {"long PING", {.length = 9, .type = FrameType::kPing}, Side::kClient, "it must have 8"},
      {"SETTINGS with bytes",
       {.length = 3, .type = FrameType::kSettings, .head = 2},
       Side::kClient,
       "SETTINGS frame has 1 bytes after its head, it must have 0"},
      {"codec without COMPRESSED",
       {.type = FrameType::kMessage, .attr = MakeAttr(0, 2), .stream = kCall},
       Side::kClient,
       "has codec 2 without COMPRESSED"},
      {"COMPRESSED without codec",
       {.type = FrameType::kMessage, .flags = kCompressed, .stream = kCall},
       Side::kClient,
       "has codec 0 with COMPRESSED"},
      {"COMPRESSED unannounced",
       {.type = FrameType::kMessage, .flags = kCompressed, .attr = MakeAttr(0, 1), .stream = kCall},
       Side::kClient,
       "has COMPRESSED, a feature that was not announced"},
      {"ATTACHMENT unannounced",
       {.type = FrameType::kMessage, .flags = kAttachment, .stream = kCall},
       Side::kClient,
       "has ATTACHMENT, a feature that was not announced"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_TRUE(ValidateFrameHeader(c.header, {}).ok());
    ExpectError(CheckFrameUse(c.header, c.sender), absl::StatusCode::kInternal, c.message);
  }
}

// ---- SETTINGS

// All combinations of what CheckFrameUse looks at in a valid header: what the sessions take the short way may
// not be anything that it refuses.
TEST(CheckFrameUseTest, FindsNothingWrongWithPlainRequestsAndResponses) {
  int plain_requests = 0;
  int plain_responses = 0;
  for (int type = 1; type <= 9; ++type) {
    for (int flags = 0; flags < transport::kReservedFlags; ++flags) {
      for (int attr = 0; attr < transport::kReservedAttr; ++attr) {
        for (const StreamId stream : {transport::kConnectionStream, StreamId::Make(0, 1),
                                      StreamId::Make(1, 0), StreamId::Make(0xfffff, 0xfff)}) {
          for (const uint16_t head : {0, 1, 100}) {
            for (const uint32_t message : {0, 1, 100}) {
              FrameHeader header{.type = static_cast<FrameType>(type),
                                 .flags = static_cast<uint8_t>(flags),
                                 .attr = static_cast<uint8_t>(attr),
                                 .head = head,
                                 .stream = stream};
              header.length = header.prefix_size() + head + message;
              if (!transport::IsValidFrameHeader(header, {})) continue;
              if (IsPlainRequest(header)) {
                ++plain_requests;
                ASSERT_TRUE(CheckFrameUse(header, Side::kClient).ok()) << flags << " " << attr;
              }
              if (IsPlainResponse(header)) {
                ++plain_responses;
                ASSERT_TRUE(CheckFrameUse(header, Side::kServer).ok()) << flags << " " << attr;
              }
            }
          }
        }
      }
    }
  }
  // Of each: the priorities, the slots that are not 0, the heads and the messages.
  EXPECT_EQ(plain_requests, 4 * 2 * 3 * 3);
  EXPECT_EQ(plain_responses, 4 * 2 * 3 * 3);
}

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

// ---- STATUS

constexpr char kDetail[] = "type.example.com/x.Detail";

WireStatus NotFound(absl::string_view message) {
  WireStatus status{.status = absl::NotFoundError(message)};
  status.status.SetPayload(kDetail, absl::Cord("payload"));
  return status;
}

WireStatus SentAndReceived(const WireStatus& status, size_t max_head = 16384) {
  const std::string head = EncodeStatusHead(status, max_head);
  EXPECT_LE(head.size(), max_head);
  absl::StatusOr<WireStatus> received = DecodeStatusHead(head);
  EXPECT_TRUE(received.ok()) << received.status();
  return received.ok() ? *std::move(received) : WireStatus{};
}

TEST(StatusTest, SurvivesTheWire) {
  WireStatus sent = NotFound("no user \xff 7");
  sent.status.SetPayload("type.example.com/empty", absl::Cord());
  sent.initial_metadata = {{"a", "1"}};
  sent.trailing_metadata = {{"b", "2"}, {"b", "3"}};
  sent.not_executed = true;
  sent.retry_after = absl::Milliseconds(250);
  const WireStatus received = SentAndReceived(sent);
  EXPECT_EQ(received.status, sent.status);
  EXPECT_EQ(received.initial_metadata, sent.initial_metadata);
  EXPECT_EQ(received.trailing_metadata, sent.trailing_metadata);
  EXPECT_TRUE(received.not_executed);
  EXPECT_EQ(received.retry_after, absl::Milliseconds(250));
  EXPECT_FALSE(received.truncated);
}

TEST(StatusTest, EveryCanonicalCodeSurvivesTheWire) {  // [P7.5]
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "text");
    EXPECT_EQ(SentAndReceived({.status = status}).status, status);
  }
}

TEST(StatusTest, OtherCodesAreReadAsErrorsWithTheNumber) {  // [P7.5]
  const struct {
    int code;
    absl::StatusCode read_as;
    const char* message;
  } kCases[] = {
      {0, absl::StatusCode::kInternal, "peer sent a STATUS frame with code 0, OK: text"},
      {17, absl::StatusCode::kUnknown, "status code is 17, known codes are 1 to 16: text"},
      {-1, absl::StatusCode::kUnknown, "status code is -1,"},
      {2'000'000'000, absl::StatusCode::kUnknown, "status code is 2000000000,"},
  };
  for (const auto& c : kCases) {
    wire::StatusHead head;
    head.set_code(c.code);
    head.set_message("text");
    ExpectError(DecodeStatusHead(head.SerializeAsString()).value().status, c.read_as, c.message);
  }
}

TEST(StatusTest, EqualStatusesHaveEqualBytes) {
  WireStatus a{.status = absl::AbortedError("x")};
  WireStatus b = a;
  for (const char* url : {"c", "a", "b"}) a.status.SetPayload(url, absl::Cord(url));
  for (const char* url : {"b", "a", "c"}) b.status.SetPayload(url, absl::Cord(url));
  EXPECT_EQ(EncodeStatusHead(a, 16384), EncodeStatusHead(b, 16384));
}

TEST(StatusTest, DropsDetailsBeforeAnythingElse) {  // [P7.7]
  WireStatus sent = NotFound("gone");
  sent.status.SetPayload("type.example.com/big", absl::Cord(std::string(500, 'x')));
  sent.trailing_metadata = {{"b", "2"}};
  const WireStatus received = SentAndReceived(sent, 200);
  EXPECT_EQ(received.status, absl::NotFoundError("gone"));
  EXPECT_EQ(received.trailing_metadata, sent.trailing_metadata);
  EXPECT_TRUE(received.truncated);
}

TEST(StatusTest, ThenCutsTheMessage) {  // [P7.7]
  WireStatus sent = NotFound(std::string(1000, 'm'));
  sent.trailing_metadata = {{"b", std::string(100, 'v')}};
  const WireStatus received = SentAndReceived(sent, 256);
  EXPECT_EQ(received.status.code(), absl::StatusCode::kNotFound);
  EXPECT_GT(received.status.message().size(), 100u);
  EXPECT_THAT(std::string(received.status.message()), testing::MatchesRegex("m+"));
  EXPECT_EQ(received.trailing_metadata, sent.trailing_metadata);
  EXPECT_TRUE(received.truncated);
}

TEST(StatusTest, DropsMetadataInsteadOfTheMessage) {  // [P7.7]
  WireStatus sent = NotFound("gone");
  sent.initial_metadata = {{"a", std::string(300, 'v')}};
  sent.trailing_metadata = {{"b", "2"}};
  const WireStatus received = SentAndReceived(sent, 256);
  EXPECT_EQ(received.status, absl::NotFoundError("gone"));
  EXPECT_TRUE(received.initial_metadata.empty());
  EXPECT_TRUE(received.trailing_metadata.empty());
  EXPECT_TRUE(received.truncated);
}

TEST(StatusTest, CutsBetweenCharactersOfUtf8) {  // [P7.7]
  for (size_t max_head = kMinStatusHead; max_head < kMinStatusHead + 8; ++max_head) {
    std::string message;
    for (int i = 0; i < 100; ++i) message += "\xe2\x82\xac";
    const WireStatus received = SentAndReceived({.status = absl::NotFoundError(message)}, max_head);
    EXPECT_FALSE(received.status.message().empty());
    EXPECT_EQ(received.status.message().size() % 3, 0u);
  }
}

TEST(StatusTest, FitsAnyLimitWithItsCode) {  // [P7.7]
  test::Random random;
  for (int i = 0; i < 2000; ++i) {
    WireStatus sent{
        .status = absl::Status(static_cast<absl::StatusCode>(random.Number(1, 16)), random.Bytes(600)),
        .not_executed = random.Coin(),
        .retry_after = absl::Hours(1000)};
    if (random.Coin()) sent.initial_metadata.Add("a", random.Bytes(300));
    if (random.Coin()) sent.trailing_metadata.Add("b", random.Bytes(300));
    if (random.Coin()) sent.status.SetPayload(kDetail, absl::Cord(random.Bytes(300)));
    const WireStatus received = SentAndReceived(sent, random.Number(kMinStatusHead, 1200));
    ASSERT_EQ(received.status.code(), sent.status.code());
    ASSERT_EQ(received.not_executed, sent.not_executed);
    ASSERT_TRUE(received.truncated || received.status == sent.status);
  }
}

TEST(StatusTest, LeavesOutWhatMayNotBeSent) {  // [P8.1]
  WireStatus sent = NotFound("gone");
  sent.status.SetPayload(
      "not\xff"
      "utf8",
      absl::Cord("x"));
  sent.trailing_metadata = {{"fine", "1"}, {"Not fine", "2"}, {"ferry-x", "3"}};
  const WireStatus received = SentAndReceived(sent);
  EXPECT_EQ(received.status, NotFound("gone").status);
  EXPECT_EQ(received.trailing_metadata, (Metadata{{"fine", "1"}}));
  EXPECT_TRUE(received.truncated);
}

TEST(StatusTest, CarriesAtMost64Details) {  // [P7.8]
  WireStatus sent{.status = absl::NotFoundError("x")};
  wire::StatusHead head;
  head.set_code(5);
  for (int i = 0; i < 65; ++i) {
    const std::string url = absl::StrCat("type.example.com/", i);
    sent.status.SetPayload(url, absl::Cord());
    head.add_details()->set_type_url(url);
  }
  for (const std::string& bytes : {EncodeStatusHead(sent, 16384), head.SerializeAsString()}) {
    const WireStatus received = DecodeStatusHead(bytes).value();
    int details = 0;
    received.status.ForEachPayload([&details](absl::string_view, const absl::Cord&) { ++details; });
    EXPECT_EQ(details, kMaxStatusDetails);
    EXPECT_TRUE(received.truncated);
  }
}

TEST(StatusTest, RejectsMalformedHeads) {  // [P5.2] [P8.5]
  ExpectError(DecodeStatusHead("\xff").status(), absl::StatusCode::kInternal,
              "status head of 1 bytes does not parse");
  wire::StatusHead head;
  head.set_code(5);
  head.add_trailing_metadata()->set_key("Not fine");
  ExpectError(DecodeStatusHead(head.SerializeAsString()).status(), absl::StatusCode::kInternal,
              "in a status head, metadata key \"Not fine\"");
}

}  // namespace
}  // namespace ferry
