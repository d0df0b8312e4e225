#include "ferry/benchmarks/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "ferry/benchmarks/figures.h"
#include "ferry/benchmarks/meter.h"
#include "ferry/benchmarks/report.h"
#include "ferry/benchmarks/rows.h"

namespace ferry::bench {
namespace {

using testing::HasSubstr;

// Calls of 5 us that take 2 us of the client's processor, 3 allocations and 4 system calls.
Measurement NewMeasurement(int64_t calls) {
  Measurement measured;
  measured.calls = calls;
  measured.nanos = 1'000'000'000;
  measured.client = {.cpu_nanos = 2000 * calls, .heap_allocations = 3 * calls, .syscalls = 4 * calls};
  measured.latency.Record(5000);
  return measured;
}

// A round for each of `calls`.
Result NewResult(const Row& row, const std::string& implementation, std::initializer_list<int64_t> calls) {
  Result result{row, implementation, {}};
  for (const int64_t each : calls) result.rounds.push_back(NewMeasurement(each));
  return result;
}

Row RowWith(std::vector<Bound> bounds) {
  return {.name = "T", .implementations = {"ferry", "floor"}, .bounds = std::move(bounds)};
}

const Figure& Calls() { return FigureNamed("calls_per_second"); }

TEST(ResultsTest, TakesTheMedianOfTheRounds) {
  EXPECT_EQ(Value(NewResult(RowWith({}), "ferry", {10, 1000, 30}), Calls()), 30);
  EXPECT_EQ(Value(NewResult(RowWith({}), "ferry", {10}), FigureNamed("client_idle_cpu_us")), std::nullopt);
}

TEST(ResultsTest, ComparesWithinARound) {
  const Result ferry = NewResult(RowWith({}), "ferry", {50, 10, 500});
  const Result floor = NewResult(RowWith({}), "floor", {100, 100, 1000});
  EXPECT_EQ(Ratio(ferry, floor, Calls()), 0.5);
}

TEST(ResultsTest, ComparesWithTheSameWorkOnly) {
  Row other = RowWith({});
  other.transport = Transport::kUnix;
  const std::vector<Result> results = {NewResult(RowWith({}), "ferry", {50}),
                                       NewResult(other, "floor", {100}),
                                       NewResult(RowWith({}), "floor", {200})};
  EXPECT_EQ(Compared(results[0], "floor", results), &results[2]);
  EXPECT_EQ(Compared(results[0], "grpc", results), nullptr);
}

TEST(ResultsTest, ComparesWithTheNextFewerThreads) {
  std::vector<Result> results;
  for (const int threads : {8, 1, 4}) {
    Row row = RowWith({});
    row.work.threads = threads;
    results.push_back(NewResult(row, "ferry", {100}));
  }
  EXPECT_EQ(Compared(results[0], Bound::kFewerThreads, results), &results[2]);
  EXPECT_EQ(Compared(results[1], Bound::kFewerThreads, results), nullptr);
}

TEST(ResultsTest, JudgesTheFirstImplementationOfARow) {
  const Row row = RowWith({{"calls_per_second", "floor", Bound::Kind::kAtLeast, 0.5},
                           {"calls_per_second", "floor", Bound::Kind::kAtLeast, 0.6},
                           {"client_heap_allocations_per_call", Bound::kNothing, Bound::Kind::kAtMost, 3},
                           {"client_heap_allocations_per_call", Bound::kNothing, Bound::Kind::kAtMost, 2},
                           {"calls_per_second", "grpc", Bound::Kind::kAtLeast, 0}});
  const std::vector<Result> results = {NewResult(row, "ferry", {50}), NewResult(row, "floor", {100})};
  const std::vector<Verdict> verdicts = Judge(results[0], results);
  ASSERT_EQ(verdicts.size(), 5u);
  EXPECT_EQ(verdicts[0].judged, 0.5);
  EXPECT_EQ(verdicts[0].value, 50);
  EXPECT_TRUE(verdicts[0].met());
  EXPECT_FALSE(verdicts[1].met());
  EXPECT_TRUE(verdicts[2].met());
  EXPECT_FALSE(verdicts[3].met());
  EXPECT_EQ(verdicts[4].judged, std::nullopt);
  EXPECT_FALSE(verdicts[4].met());
  EXPECT_TRUE(Judge(results[1], results).empty());
}

TEST(ResultsTest, DoesNotJudgeByAReferenceThatIsNotWhatItIsFor) {
  const Row row = RowWith({{"calls_per_second", "floor", Bound::Kind::kAtMost, 9, "floor-polling"}});
  std::vector<Result> results = {NewResult(row, "ferry", {50}), NewResult(row, "floor", {100}),
                                 NewResult(row, "floor-polling", {200})};
  EXPECT_EQ(Judge(results[0], results)[0].judged, 0.5);
  results[2] = NewResult(row, "floor-polling", {90});
  EXPECT_EQ(Judge(results[0], results)[0].judged, std::nullopt);
}

TEST(ReportTest, AlignsItsColumns) {
  Row unix_row = RowWith({});
  unix_row.transport = Transport::kUnix;
  const std::string table =
      FigureTable({NewResult(RowWith({}), "ferry", {50}), NewResult(unix_row, "floor", {1'000'000})});
  EXPECT_THAT(table, HasSubstr("row  workload  transport  conns  in flight  threads  bytes  beside   reply   "
                               "implementation  calls/s  p50 us"));
  EXPECT_THAT(
      table,
      HasSubstr("\nT    unary     tcp            1          1        1     64  nothing  reused  ferry   "
                "             50     5."));
  EXPECT_THAT(
      table,
      HasSubstr("\nT    unary     unix           1          1        1     64  nothing  reused  floor   "
                "        1000000     5."));
}

TEST(ReportTest, SaysWhichBoundsWereMet) {
  const Row row = RowWith({{"calls_per_second", "floor", Bound::Kind::kAtLeast, 0.5},
                           {"calls_per_second", "grpc", Bound::Kind::kAtLeast, 8},
                           {"client_syscalls_per_call", Bound::kNothing, Bound::Kind::kAtMost, 0.05}});
  const std::string table = BoundTable({NewResult(row, "ferry", {50}), NewResult(row, "floor", {100})});
  EXPECT_THAT(table, testing::ContainsRegex("calls_per_second +50 +floor +0.50 +>= 0.5 +yes\n"));
  EXPECT_THAT(table, testing::ContainsRegex("calls_per_second +50 +grpc +- +>= 8 +no verdict\n"));
  EXPECT_THAT(table, testing::ContainsRegex("client_syscalls_per_call +4.000 +<= 0.05 +NO\n"));
  EXPECT_THAT(table, HasSubstr("\n1 of 3 bounds met, 1 without a verdict\n"));
}

TEST(ReportTest, WritesAnObjectALine) {
  const Row row = RowWith({{"calls_per_second", "floor", Bound::Kind::kAtLeast, 0.5}});
  const std::string json = Json({NewResult(row, "ferry", {50}), NewResult(row, "floor", {100})});
  EXPECT_THAT(json, testing::StartsWith("{\"row\": \"T\", \"workload\": \"unary\", "));
  EXPECT_THAT(json, HasSubstr("\"calls_per_second\": 50, "));
  EXPECT_THAT(json, HasSubstr("\"client_cpu_seconds_per_million_calls\": 2.00, "));
  EXPECT_THAT(json, HasSubstr("\"client_heap_allocations_per_call\": 3.00, "));
  EXPECT_THAT(json, HasSubstr("\"client_idle_cpu_us\": null, "));
  EXPECT_THAT(json,
              HasSubstr("\"floor_ratio\": 0.500, \"floor_polling_ratio\": null, \"grpc_ratio\": null, "));
  EXPECT_THAT(json, HasSubstr("\"bounds\": [{\"figure\": \"calls_per_second\", \"to\": \"floor\", \"value\": "
                              "50.000, \"judged\": 0.500, \"wanted\": \">= 0.5\", \"met\": true}]}\n{"));
}

}  // namespace
}  // namespace ferry::bench
