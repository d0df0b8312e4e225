// Runs a few hundred calls of gRPC's rows through the load program that knows gRPC.
#include <gtest/gtest.h>

#include "tests/benchmarks/program.h"

namespace ferry::bench {
namespace {

TEST(GrpcSmokeTest, EveryKindOfWorkComesBackWhole) {
  const Outcome outcome =
      RunProgram("benchmarks/grpc/load_with_grpc --smoke --json --rows=A1,B,C,M --impl=ferry,grpc,grpc-sync");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  const auto lines = ParseLines(outcome.output);
  EXPECT_EQ(lines.size(), 3u * (2 + 2 + 4 + 7));
  for (const auto& line : lines) {
    EXPECT_TRUE(line.fields().at("grpc_ratio").has_number_value()) << line.ShortDebugString();
  }
}

}  // namespace
}  // namespace ferry::bench
