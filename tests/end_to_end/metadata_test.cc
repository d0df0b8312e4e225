// Metadata between whole clients and servers.
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/metadata.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/served.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using Stub = ConformanceStub;

constexpr StubMethod kEchoMetadata = {"metadata", &Stub::EchoMetadata, &Stub::EchoMetadata,
                                      &Stub::EchoMetadata, &Stub::EchoMetadata};

const Metadata& Pairs() {
  static const Metadata& pairs = *new Metadata{
      {"text", "some text"}, {"empty", ""}, {"unicode", "☺ 😈"}, {"binary", std::string("\0\xff\n\r\x80", 5)},
      {"text", "again"},
  };
  return pairs;
}

Metadata WithPrefix(const std::string& prefix) {
  Metadata result;
  for (const auto& [key, value] : Pairs().entries()) result.Add(prefix + key, value);
  return result;
}

TEST(MetadataTest, TravelsBothWays) {
  for (const std::string& transport : AvailableTransports()) {
    Served served(transport);
    for (const Form form : kForms) {
      for (const size_t size : {0u, 100u, 200'000u}) {
        SCOPED_TRACE(absl::StrCat(transport, ", ", FormName(form), ", ", size, " bytes"));
        // Something is in it before.
        ReplyMetadata metadata{.initial = {{"old", "old"}}, .trailing = {{"old", "old"}}};
        const absl::StatusOr<Message> reply = Call(*served.stub, kEchoMetadata, form, MessageOf(1, size),
                                                   {.metadata = Pairs(), .reply_metadata = &metadata});
        ASSERT_TRUE(reply.ok()) << reply.status();
        EXPECT_EQ(reply->payload().size(), size);
        EXPECT_EQ(metadata.initial, WithPrefix("initial-"));
        EXPECT_EQ(metadata.trailing, WithPrefix("trailing-"));
      }
    }
  }
}

TEST(MetadataTest, TravelsWithAnError) {
  Served served;
  Message request;
  request.set_code(static_cast<int>(StatusCode::kNotFound));
  request.set_text("not there");
  for (const Form form : kForms) {
    SCOPED_TRACE(FormName(form));
    ReplyMetadata metadata;
    const absl::Status status =
        Call(*served.stub, kEchoMetadata, form, request, {.metadata = Pairs(), .reply_metadata = &metadata})
            .status();
    EXPECT_EQ(status, absl::NotFoundError("not there"));
    EXPECT_EQ(metadata.initial, WithPrefix("initial-"));
    EXPECT_EQ(metadata.trailing, WithPrefix("trailing-"));
  }
}

TEST(MetadataTest, OfOneCallIsNotSeenByTheNext) {
  Served served;
  ReplyMetadata metadata;
  ASSERT_TRUE(served.stub->EchoMetadata(Message(), {.metadata = Pairs()}).ok());
  ASSERT_TRUE(served.stub->EchoMetadata(Message(), {.reply_metadata = &metadata}).ok());
  EXPECT_EQ(metadata.initial, Metadata());
  EXPECT_EQ(metadata.trailing, Metadata());
}

TEST(MetadataTest, OverTheServersLimitIsRefused) {
  for (const Form form : kForms) {
    SCOPED_TRACE(FormName(form));
    Served served("127.0.0.1:0", {.threads = 1, .max_metadata = 20'000});
    // The first call does not know the server's limit; the second does.
    for (int i = 0; i < 2; ++i) {
      const absl::Status status =
          Call(*served.stub, kEchoes[0], form, Message(), {.metadata = {{"k", std::string(20'000, 'v')}}})
              .status();
      EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "metadata is 200")) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "bytes, limit is ")) << status;
      EXPECT_TRUE(Call(*served.stub, kEchoes[0], form, Message(), {.metadata = Pairs()}).ok());
    }
    EXPECT_TRUE(
        Call(*served.stub, kEchoes[0], form, Message(), {.metadata = {{"k", std::string(19'000, 'v')}}})
            .ok());
  }
}

TEST(MetadataTest, OverTheFormatsLimitIsRefused) {
  Served served;
  const absl::Status status =
      served.stub->EchoInline(Message(), {.metadata = {{"k", std::string(70'000, 'v')}}}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "bytes, limit is 65535")) << status;
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
}

TEST(MetadataTest, InAReplyOverTheClientsLimitIsRefused) {
  Served served;
  for (const size_t size : {0u, 200'000u}) {
    SCOPED_TRACE(size);
    // The reply's is twice as long as the request's.
    const absl::Status status =
        served.stub->EchoMetadata(MessageOf(1, size), {.metadata = {{"k", std::string(10'000, 'v')}}})
            .status();
    EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "bytes, limit is 16384")) << status;
    EXPECT_TRUE(served.stub->EchoMetadata(Message(), {.metadata = Pairs()}).ok());
  }
}

TEST(MetadataTest, ABadKeyIsRefused) {
  Served served;
  for (const std::string key : {"", "Upper", "with space", "colon:", "ferry-own"}) {
    for (const Form form : kForms) {
      SCOPED_TRACE(absl::StrCat("\"", key, "\", ", FormName(form)));
      const absl::Status status =
          Call(*served.stub, kEchoes[0], form, Message(), {.metadata = {{key, "value"}}}).status();
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), key)) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "metadata key")) << status;
    }
  }
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
}

TEST(MetadataTest, ABadKeyInAReplyIsRefused) {
  Served served;
  // With the prefix that the handler gives it, the key is too long.
  const std::string longest(128, 'k');
  const absl::Status status =
      served.stub->EchoMetadata(Message(), {.metadata = {{longest, "value"}}}).status();
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), "metadata key is 136 bytes, it must be 1 to 128"))
      << status;
  EXPECT_TRUE(served.stub->EchoInline(Message(), {.metadata = {{longest, "value"}}}).ok());
}

}  // namespace
}  // namespace ferry::test::e2e
