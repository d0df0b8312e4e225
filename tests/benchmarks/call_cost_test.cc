// Guards what a call costs, by counts that are the same on every run: call_cost.txt has them on record.
#include <gtest/gtest.h>
#include <sys/utsname.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/benchmarks/program.h"

namespace ferry::bench {
namespace {

using Costs = std::map<std::string, double>;

// Instructions differ with what built and linked the program: they are on record for one build.
std::string Build() {
  utsname machine;
  uname(&machine);
#if defined(__clang__) || !defined(__OPTIMIZE__) || !defined(NDEBUG)
  return absl::StrCat("another build on ", machine.machine);
#else
  return absl::StrCat("gcc-", __GNUC__, "-opt-", machine.machine);
#endif
}

// The lines "BUILD NAME NUMBER" of the record that are about `build`.
Costs Recorded(const std::string& build) {
  Costs costs;
  std::ifstream file("tests/benchmarks/call_cost.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string of_build, name;
    double number;
    if (words >> of_build >> name >> number && of_build == build) costs[name] = number;
  }
  return costs;
}

// What one_loop prints of itself, each name begun with `prefix`.
Costs Counted(int in_flight, std::string_view prefix, int servers = 0) {
  const Outcome outcome = RunProgram(absl::StrCat("benchmarks/one_loop 6400 ", in_flight, " ", servers));
  EXPECT_EQ(outcome.exit_status, 0) << outcome.output;
  Costs costs;
  std::istringstream words(outcome.output);
  std::string name;
  for (double number; words >> name >> number;) costs[absl::StrCat(std::string(prefix), name)] = number;
  EXPECT_FALSE(costs.empty()) << outcome.output;
  return costs;
}

// How many instructions valgrind sees in a whole run. The C library would choose among its string functions
// by the processor that it finds: it is told to find little.
double Instructions(int calls, int in_flight, int servers) {
  const Outcome outcome = RunProgram(
      absl::StrCat("GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-BMI1,-BMI2,-"
                   "ERMS,-LZCNT,-MOVBE,-SSSE3,"
                   "-SSE4_1,-SSE4_2 "
                   "valgrind --tool=callgrind --callgrind-out-file=/dev/null --vgdb=no benchmarks/one_loop ",
                   calls, " ", in_flight, " ", servers, " 2>&1"));
  EXPECT_EQ(outcome.exit_status, 0) << "valgrind is Debian's package of that name\n" << outcome.output;
  constexpr std::string_view kBefore = "Collected : ";
  const size_t at = outcome.output.find(kBefore);
  if (at == std::string::npos) return 0;
  return std::atof(outcome.output.c_str() + at + kBefore.size());
}

// Of one call: what begins and ends the program falls out of the difference.
double InstructionsOfEach(int in_flight, int servers = 0) {
  constexpr int kFew = 640, kMany = 6400;
  return (Instructions(kMany, in_flight, servers) - Instructions(kFew, in_flight, servers)) / (kMany - kFew);
}

class CallCostTest : public testing::Test {
 protected:
  void ExpectRecorded(const Costs& costs, double tolerance) {
    const std::string build = Build();
    const Costs recorded = Recorded(build);
    for (const auto& [name, cost] : costs) {
      const std::string line = absl::StrFormat("%s %s %.*f", build, name, cost < 1000 ? 3 : 0, cost);
      std::printf("%s\n", line.c_str());
      if (recorded.empty()) continue;
      ASSERT_TRUE(recorded.contains(name)) << "there is no record of it in call_cost.txt: " << line;
      EXPECT_NEAR(cost, recorded.at(name), recorded.at(name) * tolerance + 0.005)
          << "what a call costs has changed. If that is meant, the record is now, in call_cost.txt:\n"
          << line;
    }
    if (recorded.empty()) std::printf("nothing is on record for %s\n", build.c_str());
  }
};

TEST_F(CallCostTest, CountsOfOneCallInFlightAreAsRecorded) { ExpectRecorded(Counted(1, "one."), 0.01); }

TEST_F(CallCostTest, CountsOfManyCallsInFlightAreAsRecorded) { ExpectRecorded(Counted(64, "many."), 0.01); }

TEST_F(CallCostTest, InstructionsOfOneCallInFlightAreAsRecorded) {
  ExpectRecorded({{"one.instructions", InstructionsOfEach(1)}}, 0.05);
}

TEST_F(CallCostTest, InstructionsOfManyCallsInFlightAreAsRecorded) {
  ExpectRecorded({{"many.instructions", InstructionsOfEach(64)}}, 0.05);
}

TEST_F(CallCostTest, AllocationsOfManyCallsToAServiceAreAsRecorded) {
  const Costs counted = Counted(64, "fleet.", 3);
  const auto allocations = counted.find("fleet.allocations");
  ASSERT_NE(allocations, counted.end());
  ExpectRecorded({*allocations}, 0.01);
}

TEST_F(CallCostTest, InstructionsOfManyCallsToAServiceAreAsRecorded) {
  ExpectRecorded({{"fleet.instructions", InstructionsOfEach(64, 3)}}, 0.05);
}

}  // namespace
}  // namespace ferry::bench
