#include "ferry/codegen/names.h"

#include <gtest/gtest.h>

#include <string>

namespace ferry::codegen {
namespace {

TEST(NameScopeTest, HandsOutFreeNamesAsTheyAre) {
  NameScope scope;
  EXPECT_EQ(scope.Take("Run"), "Run");
  EXPECT_EQ(scope.Take("Walk"), "Walk");
}

TEST(NameScopeTest, AppendsUnderscoresUntilANameIsFree) {
  NameScope scope;
  scope.Reserve("Run_");
  EXPECT_EQ(scope.Take("Run"), "Run");
  EXPECT_EQ(scope.Take("Run"), "Run__");
}

TEST(NameScopeTest, NeverHandsOutAReservedWord) {
  NameScope scope;
  EXPECT_EQ(scope.Take("class"), "class_");
  EXPECT_EQ(scope.Take("co_await"), "co_await_");
  EXPECT_EQ(scope.Take("NULL"), "NULL_");
}

TEST(ReservedWordTest, KnowsTheFirstAndTheLastOfItsList) {
  EXPECT_TRUE(IsReservedWord("EOF"));
  EXPECT_TRUE(IsReservedWord("alignas"));
  EXPECT_TRUE(IsReservedWord("xor_eq"));
  EXPECT_FALSE(IsReservedWord("Class"));
  EXPECT_FALSE(IsReservedWord("z"));
  EXPECT_FALSE(IsReservedWord(""));
}

TEST(SnakeCaseTest, SeparatesWords) {
  const struct {
    const char* name;
    const char* expected;
  } kCases[] = {
      {"Greet", "greet"},     {"GreetLater", "greet_later"}, {"GetHTTPUrl", "get_http_url"}, {"HTTP", "http"},
      {"get_url", "get_url"}, {"Get_Url", "get_url"},        {"V2List", "v2_list"},          {"_Odd", "_odd"},
  };
  for (const auto& c : kCases) EXPECT_EQ(SnakeCase(c.name), c.expected);
}

}  // namespace
}  // namespace ferry::codegen
