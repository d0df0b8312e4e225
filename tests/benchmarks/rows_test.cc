#include "ferry/benchmarks/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ferry/benchmarks/report.h"

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

Result NewResult(const Row& row, const std::string& implementation, int64_t calls) {
  Measurement measured{.calls = calls, .nanos = 1'000'000'000, .client = {}, .server = {}, .latency = {}};
  measured.client = {.cpu_nanos = 2000 * calls, .heap_allocations = 3 * calls, .syscalls = 4 * calls};
  measured.latency.Record(5000);
  return {row, implementation, measured};
}

TEST(RowsTest, FindsRowsByNameAndByGroup) {
  const auto rows = FindRows({"A2", "B"});
  ASSERT_TRUE(rows.ok());
  EXPECT_THAT(NamesOf(*rows), ElementsAre("A2", "B1", "B2", "B3", "B4"));
}

TEST(RowsTest, SaysWhichRowIsUnknown) {
  const auto rows = FindRows({"A1", "Z9"});
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(rows.status().message()), HasSubstr("Z9"));
}

TEST(RowsTest, NamesTheSameWorkTheSame) {
  Row row{.name = "", .transport = Transport::kUnix, .work = {.in_flight = 128}};
  NameRow(row);
  EXPECT_EQ(row.name, "A4");
  Row other{.name = "", .transport = Transport::kUnix, .work = {.in_flight = 127}};
  NameRow(other);
  EXPECT_EQ(other.name, "");
}

TEST(RowsTest, ComparesWithTheSameWorkOnly) {
  const std::vector<Row> rows = StandardRows();
  const std::vector<Result> results = {NewResult(rows[0], "ferry", 50), NewResult(rows[0], "floor", 100),
                                       NewResult(rows[1], "ferry", 50)};
  EXPECT_EQ(RatioTo("floor", results[0], results), 0.5);
  EXPECT_EQ(RatioTo("floor", results[2], results), std::nullopt);
  EXPECT_EQ(RatioTo("grpc", results[0], results), std::nullopt);
}

TEST(RowsTest, ComparesOtherWorkloadsWithTheUnaryFloor) {
  const Row unary = FindRows({"A3"})->front();
  const Row executor = FindRows({"B3"})->front();
  const std::vector<Result> results = {NewResult(executor, "ferry", 20), NewResult(unary, "floor", 100)};
  EXPECT_EQ(RatioTo("floor", results[0], results), 0.2);
}

TEST(ReportTest, AlignsItsColumns) {
  const std::vector<Row> rows = StandardRows();
  const std::string table = Table({NewResult(rows[0], "ferry", 50), NewResult(rows[2], "floor", 1'000'000)});
  EXPECT_THAT(
      table, HasSubstr("row  workload  transport  conns  in flight  bytes  implementation  calls/s  p50 us"));
  EXPECT_THAT(
      table,
      HasSubstr("\nA1   unary     tcp            1          1     64  ferry                50     5."));
  EXPECT_THAT(
      table,
      HasSubstr("\nA3   unary     tcp            1        128     64  floor           1000000     5."));
}

TEST(ReportTest, WritesAnObjectALine) {
  const std::vector<Row> rows = StandardRows();
  const std::string json = Json({NewResult(rows[0], "ferry", 50), NewResult(rows[0], "floor", 100)});
  EXPECT_THAT(json, testing::StartsWith("{\"row\": \"A1\", \"workload\": \"unary\", "));
  EXPECT_THAT(json, HasSubstr("\"calls_per_second\": 50, "));
  EXPECT_THAT(json, HasSubstr("\"client_cpu_seconds_per_million_calls\": 2.00, "));
  EXPECT_THAT(json, HasSubstr("\"client_heap_allocations_per_call\": 3.00, "));
  EXPECT_THAT(json,
              HasSubstr("\"floor_ratio\": 0.500, \"floor_polling_ratio\": null, \"grpc_ratio\": null}\n{"));
}

}  // namespace
}  // namespace ferry::bench
