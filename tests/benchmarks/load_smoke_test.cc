// Runs a few hundred calls of every standard row through the load program and reads what it prints for
// programs.
#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmath>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ferry::bench {
namespace {

constexpr char kWords[][32] = {"row", "workload", "transport", "implementation"};
constexpr char kNumbers[][48] = {
    "connections",
    "in_flight",
    "payload_bytes",
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
    "floor_ratio",
    "floor_polling_ratio",
};

struct Outcome {
  int exit_status;
  std::string output;
};

// Tests run where their runfiles are.
Outcome RunLoad(const std::string& arguments) {
  FILE* pipe = popen(("benchmarks/load " + arguments + " 2>&1").c_str(), "r");
  std::string output;
  for (int c = getc(pipe); c != EOF; c = getc(pipe)) output.push_back(static_cast<char>(c));
  return {WEXITSTATUS(pclose(pipe)), output};
}

using Fields = google::protobuf::Map<std::string, google::protobuf::Value>;

std::vector<google::protobuf::Struct> ParseLines(const std::string& text) {
  std::vector<google::protobuf::Struct> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &lines.emplace_back()).ok()) << line;
  }
  return lines;
}

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
  EXPECT_TRUE(row.contains("grpc_ratio"));
  EXPECT_GT(row.at("calls_per_second").number_value(), 0);
  EXPECT_LE(row.at("p50_us").number_value(), row.at("p99_us").number_value());
  EXPECT_LE(row.at("p99_us").number_value(), row.at("p999_us").number_value());
}

TEST(LoadSmokeTest, EveryRowOfEveryImplementationHasEveryFigure) {
  const Outcome outcome = RunLoad("--smoke --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  std::set<std::string> seen;
  for (const auto& line : ParseLines(outcome.output)) {
    SCOPED_TRACE(line.ShortDebugString());
    ExpectWholeRow(line.fields());
    seen.insert(line.fields().at("row").string_value() + " " +
                line.fields().at("implementation").string_value());
  }
  std::set<std::string> expected;
  for (const std::string group : {"A", "B", "C"}) {
    for (const std::string number : {"1", "2", "3", "4"}) {
      for (const std::string implementation : {"ferry", "floor", "floor-polling"}) {
        expected.insert(absl::StrCat(group, number, " ", implementation));
      }
    }
  }
  EXPECT_EQ(seen, expected);
}

TEST(LoadSmokeTest, ManyConnectionsAndLargePayloadsComeBackWhole) {
  const Outcome outcome = RunLoad(
      "--workload=unary --connections=1,10 --in_flight=4 --payload=1,1000000 --calls=200 --seconds=20 "
      "--warm_up=0 --json");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  EXPECT_GE(ParseLines(outcome.output).size(), 24u);
}

TEST(LoadSmokeTest, SaysWhatItDoesNotKnow) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--rows=Z", "no row Z"},
      {"--impl=carrier-pigeon", "no implementation carrier-pigeon"},
      {"--workload=sleep", "no workload sleep"},
      {"--transports=rain", "no transport rain"},
      {"--in_flight=0", "positive number: 0"},
  };
  for (const auto& [flag, message] : cases) {
    SCOPED_TRACE(flag);
    const Outcome outcome = RunLoad(flag);
    EXPECT_EQ(outcome.exit_status, 1);
    EXPECT_THAT(outcome.output, testing::HasSubstr(message));
  }
}

}  // namespace
}  // namespace ferry::bench
