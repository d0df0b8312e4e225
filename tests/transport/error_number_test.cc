#include "ferry/transport/error_number.h"

#include <cerrno>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

TEST(ErrorNumberTest, HasAName) {
  EXPECT_EQ(ErrorName(ECONNREFUSED), "ECONNREFUSED");
  EXPECT_EQ(ErrorName(123'456), "123456");
}

TEST(ErrorNumberTest, TravelsInAStatus) {
  const absl::Status status = WithErrorNumber(absl::UnavailableError("lost"), ECONNRESET);
  EXPECT_EQ(status.message(), "lost");
  EXPECT_EQ(ErrorNumberOf(status), ECONNRESET);
}

TEST(ErrorNumberTest, LeavesNothingBehindWhenItIsTaken) {
  absl::Status status = WithErrorNumber(absl::UnavailableError("lost"), ECONNRESET);
  EXPECT_EQ(TakeErrorNumber(status), ECONNRESET);
  EXPECT_EQ(status, absl::UnavailableError("lost"));
  EXPECT_EQ(TakeErrorNumber(status), 0);
}

TEST(ErrorNumberTest, IsZeroWhereThereIsNone) {
  EXPECT_EQ(ErrorNumberOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrorNumberOf(absl::UnavailableError("lost")), 0);
  EXPECT_EQ(WithErrorNumber(absl::UnavailableError("lost"), 0), absl::UnavailableError("lost"));
}

}  // namespace
}  // namespace ferry::transport
