// rpc/PROTOCOL.md against the code: its captures, its numbers, its method ids.
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/preface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/capture.h"

namespace ferry {
namespace {

using test::CaptureRecord;
using transport::Frame;
using transport::FrameHeader;
using transport::FrameLimits;
using transport::FrameType;

std::string Document() {
  absl::StatusOr<std::string> document = test::ReadProtocolDocument();
  EXPECT_TRUE(document.ok()) << document.status();
  return document.ok() ? *document : "";
}

std::vector<CaptureRecord> Records(absl::string_view block) {
  absl::StatusOr<std::vector<CaptureRecord>> records = test::ParseCapture(Document(), block);
  EXPECT_TRUE(records.ok()) << records.status();
  return records.ok() ? *records : std::vector<CaptureRecord>();
}

std::vector<CaptureRecord> AllFrames() {
  std::vector<CaptureRecord> frames;
  for (const char* block : {"conversation", "frames"}) {
    for (CaptureRecord& record : Records(block)) {
      if (record.is_frame()) frames.push_back(std::move(record));
    }
  }
  return frames;
}

FrameType TypeNamed(const std::string& name) {
  for (int type = 1; type < 256; ++type) {
    if (transport::FrameTypeName(static_cast<FrameType>(type)) == name) return static_cast<FrameType>(type);
  }
  ADD_FAILURE() << "no frame type is named " << name;
  return FrameType{};
}

uint8_t FlagNamed(absl::string_view name) {
  if (name == "END_STREAM") return transport::kEndStream;
  if (name == "MORE") return transport::kMore;
  if (name == "ACK") return transport::kAck;
  ADD_FAILURE() << "no flag is named " << name;
  return 0;
}

FrameHeader AnnotatedHeader(const CaptureRecord& record) {
  FrameHeader header{.length = static_cast<uint32_t>(record.Number("length")),
                     .type = TypeNamed(record.name),
                     .attr = transport::MakeAttr(static_cast<uint8_t>(record.Number("priority")), 0),
                     .head = static_cast<uint16_t>(record.Number("head")),
                     .stream = transport::StreamId::Make(static_cast<uint32_t>(record.Number("slot")),
                                                         static_cast<uint32_t>(record.Number("generation")))};
  if (const auto flags = record.fields.find("flags"); flags != record.fields.end()) {
    for (absl::string_view flag : absl::StrSplit(flags->second, '|')) header.flags |= FlagNamed(flag);
  }
  return header;
}

RequestPrefix AnnotatedPrefix(const CaptureRecord& record) {
  return {.method = record.Number("method"),
          .timeout_us = static_cast<uint32_t>(record.Number("timeout_us"))};
}

// The head's text as a message of the type that goes with the frame's.
std::unique_ptr<google::protobuf::Message> AnnotatedHead(const CaptureRecord& record) {
  std::unique_ptr<google::protobuf::Message> head;
  if (record.name == "SETTINGS") head = std::make_unique<wire::Settings>();
  if (record.name == "REQUEST") head = std::make_unique<wire::RequestHead>();
  if (record.name == "MESSAGE") head = std::make_unique<wire::MessageHead>();
  if (record.name == "RESPONSE") head = std::make_unique<wire::ResponseHead>();
  if (record.name == "STATUS") head = std::make_unique<wire::StatusHead>();
  if (record.name == "WINDOW") head = std::make_unique<wire::WindowHead>();
  if (record.name == "DRAIN") head = std::make_unique<wire::DrainHead>();
  if (head != nullptr) {
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(record.head, head.get()));
  }
  return head;
}

// The frame that the record's bytes are, or nullopt and a failure.
std::optional<Frame> Decode(const CaptureRecord& record) {
  absl::string_view input = record.bytes;
  absl::StatusOr<std::optional<Frame>> frame = transport::TakeFrame(&input, FrameLimits{});
  EXPECT_TRUE(frame.ok()) << frame.status();
  if (!frame.ok()) return std::nullopt;
  EXPECT_TRUE(frame->has_value()) << "the frame is incomplete";
  EXPECT_TRUE(input.empty()) << input.size() << " bytes are left over";
  return *frame;
}

TEST(ProtocolCaptureTest, ShowsEveryFrameType) {
  std::set<std::string> names;
  for (const CaptureRecord& record : AllFrames()) names.insert(record.name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("SETTINGS", "REQUEST", "MESSAGE", "RESPONSE", "STATUS",
                                                   "CANCEL", "WINDOW", "PING", "DRAIN"));
}

TEST(ProtocolCaptureTest, BytesDecodeToTheirAnnotations) {
  for (const CaptureRecord& record : AllFrames()) {
    SCOPED_TRACE(absl::StrCat("PROTOCOL.md:", record.line, " ", record.name));
    const std::optional<Frame> frame = Decode(record);
    ASSERT_TRUE(frame.has_value());
    EXPECT_EQ(frame->header, AnnotatedHeader(record));
    EXPECT_TRUE(CheckFrameUse(frame->header, record.sender).ok())
        << CheckFrameUse(frame->header, record.sender);
    if (frame->header.type == FrameType::kRequest) {
      EXPECT_EQ(DecodeRequestPrefix(frame->prefix().data()), AnnotatedPrefix(record));
    }
    if (const auto expected = AnnotatedHead(record); expected != nullptr) {
      std::unique_ptr<google::protobuf::Message> head(expected->New());
      EXPECT_TRUE(ParseHead(frame->head(), "head", *head).ok());
      EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*head, *expected))
          << head->ShortDebugString();
    }
  }
}

TEST(ProtocolCaptureTest, AnnotationsEncodeToTheirBytes) {
  for (const CaptureRecord& record : AllFrames()) {
    SCOPED_TRACE(absl::StrCat("PROTOCOL.md:", record.line, " ", record.name));
    const std::optional<Frame> frame = Decode(record);
    ASSERT_TRUE(frame.has_value());
    std::string bytes(transport::kFrameHeaderSize, '\0');
    transport::EncodeFrameHeader(AnnotatedHeader(record), bytes.data());
    if (record.name == "REQUEST") {
      bytes.resize(bytes.size() + transport::kRequestPrefixSize);
      EncodeRequestPrefix(AnnotatedPrefix(record), &bytes[transport::kFrameHeaderSize]);
    }
    if (const auto head = AnnotatedHead(record); head != nullptr) bytes += head->SerializeAsString();
    bytes.append(frame->message().data(), frame->message().size());
    EXPECT_EQ(bytes, record.bytes);
  }
}

// Beyond the bytes of protobuf: what our own structs keep of a head is all of it.
TEST(ProtocolCaptureTest, HeadsSurviveOurOwnTypes) {
  for (const CaptureRecord& record : AllFrames()) {
    SCOPED_TRACE(absl::StrCat("PROTOCOL.md:", record.line, " ", record.name));
    const std::optional<Frame> frame = Decode(record);
    ASSERT_TRUE(frame.has_value());
    const std::string head(frame->head());
    if (record.name == "SETTINGS") {
      const WireSettings settings{.features = kFlowControlFeature | kStreamingFeature};
      EXPECT_EQ(DecodeSettings(head).value(), settings);
      EXPECT_EQ(EncodeSettings(settings), head);
    }
    if (record.name == "STATUS") {
      EXPECT_EQ(EncodeStatusHead(DecodeStatusHead(head).value(), 16384), head);
    }
    if (record.name == "RESPONSE") {
      wire::ResponseHead response;
      ASSERT_TRUE(response.ParseFromString(head));
      Metadata initial, trailing;
      ASSERT_TRUE(ReadMetadata(response.initial_metadata(), initial).ok());
      ASSERT_TRUE(ReadMetadata(response.trailing_metadata(), trailing).ok());
      EXPECT_EQ(EncodeResponseHead(initial, trailing, response.message_length(), 16384).value(), head);
    }
  }
}

TEST(ProtocolCaptureTest, ConversationIsAPrefaceAndFramesEachWay) {
  for (const Side side : {Side::kClient, Side::kServer}) {
    std::string sent;
    size_t frames = 0;
    for (const CaptureRecord& record : Records("conversation")) {
      if (record.sender != side) continue;
      sent += record.bytes;
      frames += record.is_frame();
    }
    absl::string_view input = sent;
    EXPECT_TRUE(transport::CheckPreface(input).value());
    input.remove_prefix(transport::kPrefaceSize);
    for (; frames > 0; --frames) ASSERT_TRUE(transport::TakeFrame(&input, FrameLimits{}).value().has_value());
    EXPECT_TRUE(input.empty());
  }
}

TEST(ProtocolCaptureTest, MethodIdsAreThoseOfTheDocument) {
  int ids = 0;
  for (absl::string_view line : absl::StrSplit(Document(), '\n')) {
    const std::vector<std::string> cells = absl::StrSplit(line, '`');
    uint64_t id;
    if (cells.size() != 3 || cells[0] != "| " || !absl::StartsWith(cells[2], " ")) continue;
    const std::vector<std::string> words = absl::StrSplit(cells[2], absl::ByAnyChar(" |"), absl::SkipEmpty());
    if (words.empty() || !absl::SimpleHexAtoi(words.back(), &id)) continue;
    EXPECT_EQ(MethodId(cells[1].c_str()), id) << line;
    ++ids;
  }
  EXPECT_EQ(ids, 6);
}

// "- [P3.2] ..." and the indented lines after it are one requirement.
TEST(ProtocolDocumentTest, EveryRequirementHasANumberOfItsOwn) {
  std::set<std::string> numbers;
  std::string section = "0";
  bool in_requirement = false;
  for (absl::string_view line : absl::StrSplit(Document(), '\n')) {
    if (absl::StartsWith(line, "## ")) section = std::string(line.substr(3, line.find('.') - 3));
    if (absl::StartsWith(line, "- [P")) {
      const std::string number(line.substr(3, line.find(']') - 3));
      EXPECT_TRUE(numbers.insert(number).second) << number << " is there twice";
      EXPECT_TRUE(absl::StartsWith(number, absl::StrCat("P", section, ".")))
          << number << " in section " << section;
    }
    in_requirement = absl::StartsWith(line, "- [P") || (in_requirement && absl::StartsWith(line, "  "));
    EXPECT_TRUE(section == "0" || in_requirement || !absl::StrContains(line, "MUST")) << line;
  }
  EXPECT_GT(numbers.size(), 80u);
}

TEST(ProtocolDocumentTest, CitesNumbersThatExist) {
  const std::string document = Document();
  int citations = 0;
  for (absl::string_view part : absl::StrSplit(document, "[P")) {
    if (part.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(part[0]))) continue;
    const std::string number(part.substr(0, part.find(']')));
    EXPECT_TRUE(absl::StrContains(document, absl::StrCat("- [P", number, "] "))) << number;
    ++citations;
  }
  EXPECT_GT(citations, 80);
}

}  // namespace
}  // namespace ferry
