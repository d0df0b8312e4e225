// Runs a few hundred calls of every standard row through the load program and reads what it prints for
// programs.
#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ferry/benchmarks/rows.h"
#include "tests/benchmarks/program.h"

namespace ferry::bench {
namespace {

constexpr char kWords[][32] = {"row", "workload", "transport", "beside", "reply", "implementation"};
constexpr char kNumbers[][48] = {
    "connections",
    "in_flight",
    "threads",
    "payload_bytes",
    "rounds",
    "calls_per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "client_cpu_seconds_per_million_calls",
    "server_cpu_seconds_per_million_calls",
    "client_heap_allocations_per_call",
    "server_heap_allocations_per_call",
    "client_syscalls_per_call",
    "server_syscalls_per_call",
    "client_waits_per_call",
    "server_waits_per_call",
    "client_reads_per_call",
    "server_reads_per_call",
    "client_writes_per_call",
    "server_writes_per_call",
    "client_wake_ups_per_call",
    "server_wake_ups_per_call",
    "client_empty_polls_per_call",
    "server_empty_polls_per_call",
};

constexpr char kMayBeNull[][48] = {
    "floor_ratio",
    "floor_polling_ratio",
    "grpc_ratio",
    "client_asleep_after_us",
    "server_asleep_after_us",
    "client_idle_cpu_us",
    "server_idle_cpu_us",
    "alone_p50_us",
    "alone_p99_us",
    "fragment_us",
    "p99_of_allowed",
    "one_processor",
};

// Tests run where their runfiles are.
Outcome RunLoad(const std::string& arguments) { return RunProgram("benchmarks/load " + arguments); }

using Fields = google::protobuf::Map<std::string, google::protobuf::Value>;

void ExpectWholeRow(const Fields& row) {
  for (const char* field : kWords) {
    ASSERT_TRUE(row.contains(field)) << field;
    EXPECT_FALSE(row.at(field).string_value().empty()) << field;
  }
  for (const char* field : kNumbers) {
    ASSERT_TRUE(row.contains(field)) << field;
    ASSERT_TRUE(row.at(field).has_number_value()) << field;
    EXPECT_TRUE(std::isfinite(row.at(field).number_value())) << field;
    EXPECT_GE(row.at(field).number_value(), 0) << field;
  }
  for (const char* field : kMayBeNull) EXPECT_TRUE(row.contains(field)) << field;
  EXPECT_TRUE(row.at("bounds").has_list_value());
  EXPECT_GT(row.at("calls_per_second").number_value(), 0);
  EXPECT_LE(row.at("p50_us").number_value(), row.at("p99_us").number_value());
  EXPECT_LE(row.at("p99_us").number_value(), row.at("p999_us").number_value());
}

// What a line is about, in one word.
std::string Key(std::string_view row, std::string_view transport, std::string_view implementation,
                const std::vector<int>& numbers) {
  return absl::StrCat(std::string(row), " ", std::string(transport), " ", std::string(implementation), " ",
                      absl::StrJoin(numbers, " "));
}

std::string KeyOf(const Fields& line) {
  std::vector<int> numbers;
  for (const char* field : {"connections", "in_flight", "threads"}) {
    numbers.push_back(static_cast<int>(line.at(field).number_value()));
  }
  return Key(line.at("row").string_value(), line.at("transport").string_value(),
             line.at("implementation").string_value(), numbers);
}

TEST(LoadSmokeTest, EveryRowOfEveryImplementationHasEveryFigure) {
  const Outcome outcome = RunLoad("--smoke --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  std::multiset<std::string> seen;
  for (const auto& line : ParseLines(outcome.output)) {
    SCOPED_TRACE(line.ShortDebugString());
    ExpectWholeRow(line.fields());
    seen.insert(KeyOf(line.fields()));
  }
  std::multiset<std::string> expected;
  for (const Row& row : StandardRows()) {
    for (const std::string& implementation : row.implementations) {
      if (implementation.starts_with("grpc")) continue;  // not in this program
      expected.insert(Key(row.name, Name(row.transport), implementation,
                          {row.work.connections, row.work.in_flight, row.work.threads}));
    }
  }
  EXPECT_EQ(seen, expected);
}

TEST(LoadSmokeTest, WatchesBothSidesRest) {
  const Outcome outcome = RunLoad("--smoke --json --rows=A1 --impl=ferry");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  for (const auto& line : ParseLines(outcome.output)) {
    EXPECT_TRUE(line.fields().at("client_idle_cpu_us").has_number_value()) << line.ShortDebugString();
    EXPECT_TRUE(line.fields().at("server_asleep_after_us").has_number_value()) << line.ShortDebugString();
  }
}

TEST(LoadSmokeTest, ComparesCallsBesideLargeMessagesWithCallsAlone) {
  const Outcome outcome = RunLoad("--smoke --json --rows=F");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto lines = ParseLines(outcome.output);
  EXPECT_EQ(lines.size(), 8u);
  for (const auto& line : lines) {
    for (const char* field : {"alone_p50_us", "alone_p99_us", "fragment_us", "p99_of_allowed"}) {
      EXPECT_TRUE(line.fields().at(field).has_number_value()) << field << line.ShortDebugString();
    }
  }
}

TEST(LoadSmokeTest, PrintsFiguresAndBounds) {
  const Outcome outcome = RunLoad("--smoke --rows=W,H");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_THAT(outcome.output, testing::HasSubstr("calls/s"));
  EXPECT_THAT(outcome.output, testing::HasSubstr("wire_bytes_beyond_messages"));
  EXPECT_THAT(outcome.output, testing::HasSubstr("bounds met"));
}

TEST(LoadSmokeTest, ManyConnectionsAndLargePayloadsComeBackWhole) {
  const Outcome outcome = RunLoad(
      "--workload=unary --connections=1,10 --in_flight=4 --payload=1,200000 --calls=200 --seconds=20 "
      "--warm_up=0 --rounds=1 --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_GE(ParseLines(outcome.output).size(), 24u);
}

TEST(LoadSmokeTest, OffersALoadWithoutWaitingForIt) {
  const std::string data = testing::TempDir() + "/curve";
  const Outcome outcome = RunLoad("--smoke --open_loop --json --data=" + data);
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto lines = ParseLines(outcome.output);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].fields().at("implementation").string_value(), "ferry");
  for (const char* field :
       {"offered_per_second", "ended_per_second", "p50_us", "p99_us", "max_us", "late_p99_us"}) {
    EXPECT_TRUE(lines[0].fields().at(field).has_number_value()) << field;
  }
  std::string first_line;
  std::getline(std::ifstream(data), first_line);
  EXPECT_EQ(first_line, "\"ferry\"");
}

TEST(LoadSmokeTest, SaysWhatItDoesNotKnow) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--rows=Z", "no row Z"},
      {"--impl=carrier-pigeon", "no implementation carrier-pigeon"},
      {"--workload=sleep", "no workload sleep"},
      {"--transports=rain", "no transport rain"},
      {"--in_flight=0", "positive number: 0"},
      {"--open_loop --impl=floor", "closed loops only"},
      {"--open_loop --rates=-1", "positive number: -1"},
      {"--in_flight=2 --threads=2", "one call in flight"},
  };
  for (const auto& [flag, message] : cases) {
    SCOPED_TRACE(flag);
    const Outcome outcome = RunLoad(flag + " 2>&1");
    EXPECT_EQ(outcome.exit_status, 1);
    EXPECT_THAT(outcome.output, testing::HasSubstr(message));
  }
}

}  // namespace
}  // namespace ferry::bench
