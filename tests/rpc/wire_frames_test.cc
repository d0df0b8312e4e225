// Which frames may come from whom, on which stream.
#include <cstdint>

#include "absl/status/status.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/rpc/wire_fixture.h"

namespace ferry {
namespace {

using transport::FrameHeader;
using transport::FrameType;
using transport::kAck;
using transport::kAttachment;
using transport::kCompressed;
using transport::kEndStream;
using transport::kMore;
using transport::MakeAttr;
using transport::StreamId;

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

}  // namespace
}  // namespace ferry
