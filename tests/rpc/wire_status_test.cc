// What a call's end looks like on the wire.
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/wire_fixture.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

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
