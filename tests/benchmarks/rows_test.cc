#include "ferry/benchmarks/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ferry/benchmarks/figures.h"

namespace ferry::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> NamesOf(const std::vector<Row>& rows) {
  std::vector<std::string> names;
  names.reserve(rows.size());
  for (const Row& row : rows) names.push_back(row.name);
  return names;
}

TEST(RowsTest, FindsRowsByName) {
  const auto rows = FindRows({"A2", "C"});
  ASSERT_TRUE(rows.ok());
  EXPECT_THAT(NamesOf(*rows), ElementsAre("A2", "A2", "C", "C", "C", "C"));
}

TEST(RowsTest, SaysWhichRowIsUnknown) {
  const auto rows = FindRows({"A1", "Z9"});
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr("Z9"));
}

TEST(RowsTest, NamesTheSameWorkTheSame) {
  EXPECT_EQ(RowOf(Transport::kUnix, {.in_flight = 128}, {"floor"}).name, "B");
  const Row other = RowOf(Transport::kUnix, {.in_flight = 127}, {"floor"});
  EXPECT_EQ(other.name, "");
  EXPECT_EQ(other.work.in_flight, 127);
  EXPECT_THAT(other.implementations, ElementsAre("floor"));
}

TEST(RowsTest, BoundsFiguresThatThereAre) {
  for (const Row& row : StandardRows()) {
    SCOPED_TRACE(row.name);
    EXPECT_FALSE(row.implementations.empty());
    for (const Bound& bound : row.bounds) {
      EXPECT_EQ(FigureNamed(bound.figure).name, bound.figure);
      if (bound.to == Bound::kNothing || bound.to == Bound::kFewerThreads) continue;
      EXPECT_THAT(row.implementations, testing::Contains(bound.to));
    }
  }
}

}  // namespace
}  // namespace ferry::bench
