// What the tests of the wire's format share.
#ifndef FERRY_TESTS_RPC_WIRE_FIXTURE_H_
#define FERRY_TESTS_RPC_WIRE_FIXTURE_H_

#include <string>

#include "absl/status/status.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {

inline constexpr transport::StreamId kCall = transport::StreamId::Make(1, 0);

inline void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(part));
}

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_WIRE_FIXTURE_H_
