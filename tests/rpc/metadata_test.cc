#include "ferry/rpc/metadata.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using testing::HasSubstr;

TEST(MetadataTest, KeepsOrderAndRepeatedKeys) {  // [P8.2]
  Metadata metadata = {{"b", "1"}, {"a", "2"}};
  metadata.Add("b", "3");
  EXPECT_EQ(metadata, (Metadata{{"b", "1"}, {"a", "2"}, {"b", "3"}}));
}

TEST(MetadataTest, FindsTheFirstOfAKey) {
  const Metadata metadata = {{"a", "1"}, {"a", "2"}};
  ASSERT_NE(metadata.Find("a"), nullptr);
  EXPECT_EQ(*metadata.Find("a"), "1");
  EXPECT_EQ(metadata.Find("A"), nullptr);
}

TEST(MetadataTest, AcceptsWellFormedKeys) {  // [P8.1]
  for (const std::string& key : {std::string("a"), std::string("x-request.id_9"), std::string(128, 'k'),
                                 std::string("ferry"), std::string("ferryman-x")}) {
    EXPECT_TRUE(Metadata({{key, ""}}).Validate().ok()) << key;
  }
}

TEST(MetadataTest, AcceptsAnyValue) {  // [P8.1]
  EXPECT_TRUE(Metadata({{"k", std::string("\0\xff\n", 3)}, {"k", ""}}).Validate().ok());
}

TEST(MetadataTest, RejectsMalformedKeys) {  // [P8.1] [P8.3]
  const struct {
    const char* name;
    std::string key;
    const char* message;
  } kCases[] = {
      {"empty", "", "metadata key is 0 bytes, it must be 1 to 128"},
      {"too long", std::string(129, 'k'), "metadata key is 129 bytes, it must be 1 to 128"},
      {"upper case", "User", "metadata key \"User\" has a character outside"},
      {"a space", "a b", "\"a b\""},
      {"a zero byte", std::string("a\0b", 3), "\"a\\x00\\x62\""},
      {"not ASCII", "\xc3\xa4", "\"\\xc3\\xa4\""},
      {"the protocol's own", "ferry-x", "begins with \"ferry-\", which is reserved"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = Metadata({{"fine", ""}, {c.key, ""}}).Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace ferry
