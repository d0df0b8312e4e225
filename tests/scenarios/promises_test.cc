#include "tests/scenarios/promises.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "absl/time/time.h"

namespace ferry::scenarios {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(PromisesTest, AreKeptIfEachIs) {
  Promises promises;
  promises.Add("failed calls", "none", "0 of 10", true);
  promises.AddTime("it is back after", absl::Seconds(5), absl::Seconds(5));
  std::ostringstream out;
  EXPECT_TRUE(promises.Write(out, "kill", /*time_counts=*/true));
  EXPECT_THAT(out.str(), ContainsRegex("failed calls +none +0 of 10 +kept\n"));
  EXPECT_THAT(out.str(), ContainsRegex("it is back after +<= 5.00 s +5.00 s +kept\n"));
}

TEST(PromisesTest, OneThatIsBrokenNamesItself) {
  Promises promises;
  promises.Add("failed calls", "none", "1 of 10", false);
  promises.Add("threads", "7", "7", true);
  for (const bool time_counts : {true, false}) {
    std::ostringstream out;
    EXPECT_FALSE(promises.Write(out, "kill", time_counts));
    EXPECT_THAT(out.str(), ContainsRegex("failed calls +none +1 of 10 +BROKEN\n"));
    EXPECT_THAT(out.str(), ContainsRegex("threads +7 +7 +kept\n"));
  }
}

TEST(PromisesTest, TimeCountsOnlyWhereItIsToCount) {
  Promises promises;
  promises.AddTime("it is back after", absl::Seconds(5), absl::Milliseconds(5010));
  std::ostringstream counting;
  EXPECT_FALSE(promises.Write(counting, "kill", /*time_counts=*/true));
  EXPECT_THAT(counting.str(), ContainsRegex("it is back after +<= 5.00 s +5.01 s +BROKEN\n"));
  std::ostringstream other;
  EXPECT_TRUE(promises.Write(other, "kill", /*time_counts=*/false));
  EXPECT_THAT(other.str(), HasSubstr("not kept (time does not count here)"));
  EXPECT_THAT(other.str(), Not(HasSubstr("BROKEN")));
}

TEST(PromisesTest, WhatNeverEndsBreaksThemOnAnyMachine) {
  Promises promises;
  promises.AddTime("it is back after", absl::Seconds(5), absl::InfiniteDuration());
  std::ostringstream out;
  EXPECT_FALSE(promises.Write(out, "kill", /*time_counts=*/false));
  EXPECT_THAT(out.str(), ContainsRegex("it is back after +<= 5.00 s +never +BROKEN\n"));
}

}  // namespace
}  // namespace ferry::scenarios
