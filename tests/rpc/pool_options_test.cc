#include "ferry/rpc/pool_options.h"

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

TEST(PoolOptionsTest, RefusesWhatIsOutOfBounds) {
  struct Case {
    const char* name;
    PoolOptions options;
    bool of_service;
    const char* message;
  };
  const Case kCases[] = {
      {"none", {.max_connections = 0}, false, "pool.max_connections is 0, must be in [1, 1024]"},
      {"many", {.max_connections = 1025}, false, "pool.max_connections is 1025, must be in [1, 1024]"},
      {"min over max",
       {.min_connections = 3, .max_connections = 2},
       false,
       "pool.min_connections is 3, must be in [0, 2]"},
      {"no min in a service", {.min_connections = 0}, true, "pool.min_connections is 0, must be in [1, 1]"},
      {"no calls", {.calls_per_connection = 0}, false, "pool.calls_per_connection is 0, must be at least 1"},
      {"never idle",
       {.idle_timeout = absl::ZeroDuration()},
       false,
       "pool.idle_timeout is 0, must be at least 1ms"},
      {"young", {.max_age = absl::Microseconds(1)}, false, "pool.max_age is 1us, must be at least 1ms"},
      {"jitter", {.max_age_jitter = 1.5}, false, "pool.max_age_jitter is 1.5, must be in [0, 1]"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = CheckPoolOptions(c.options, c.of_service);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(PoolOptionsTest, OneConnectionByDefaultNeedsNoPool) {
  for (const bool of_service : {false, true}) {
    EXPECT_EQ(CheckPoolOptions({}, of_service), absl::OkStatus());
    EXPECT_FALSE(WantsPool({}, of_service));
    EXPECT_FALSE(WantsPool({.min_connections = of_service ? 1 : 0}, of_service));
    EXPECT_TRUE(WantsPool({.max_connections = 2}, of_service));
    EXPECT_TRUE(WantsPool({.exclusive = true}, of_service));
    EXPECT_TRUE(WantsPool({.max_age = absl::Hours(1)}, of_service));
    EXPECT_TRUE(WantsPool({.when_full = PoolOptions::WhenFull::kFail}, of_service));
  }
  EXPECT_TRUE(WantsPool({.min_connections = 1}, false));
}

}  // namespace
}  // namespace ferry
