// Climbs every rung of the cost ladder once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/benchmarks/program.h"

namespace ferry::bench {
namespace {

TEST(LadderSmokeTest, HasEveryRung) {
  const Outcome outcome = RunProgram("benchmarks/ladder/ladder --smoke");
  ASSERT_EQ(outcome.exit_status, 0) << outcome.output;
  for (const char* rung : {"system call",
                           "clock",
                           "serialise",
                           "parse",
                           "hand-over, spinning",
                           "futex wake and switch",
                           "eventfd wake",
                           "queue hand-over",
                           "TCP round trip ",
                           "TCP round trip, polling",
                           "TCP connect",
                           "Unix socket round trip ",
                           "Unix socket round trip, polling",
                           "Unix socket connect",
                           "name look-up, cold",
                           "name look-up, again",
                           "number look-up",
                           "TLS 1.3 handshake, full",
                           "TLS 1.3 handshake, resumed",
                           "Ferry call, TCP",
                           "Ferry call, Unix socket"}) {
    EXPECT_THAT(outcome.output, testing::ContainsRegex(std::string("\n") + rung + " +[0-9]+ +[0-9]+ "));
  }
}

}  // namespace
}  // namespace ferry::bench
