// A client's call that says how it ended.
#ifndef FERRY_TESTS_TESTING_TEST_CALL_H_
#define FERRY_TESTS_TESTING_TEST_CALL_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/method.h"
#include "ferry/transport/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"

namespace ferry::test {

inline constexpr MethodDescriptor kEchoMethod{.full_name = "ferry.test.Echo/Echo",
                                              .id = MethodId("ferry.test.Echo/Echo")};

inline constexpr MethodDescriptor kIdempotentEchoMethod{
    .full_name = "ferry.test.Echo/Echo", .id = MethodId("ferry.test.Echo/Echo"), .idempotent = true};

// A TestCall is a call of Echo for the test to start. It fails the test when it ends twice.
//
// Thread-compatible: for loops that run on the test's thread.
class TestCall final : public ClientCall {
 public:
  explicit TestCall(const std::string& text = "hello",
                    transport::Instant until = transport::Instant::Infinite()) {
    method = &kEchoMethod;
    deadline = until;
    reply_metadata = &metadata;
    request.set_text(text);
  }

  bool ParseReply(absl::string_view bytes) override {
    return reply.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  void Complete(absl::Status how) override {
    EXPECT_FALSE(ended) << "ended again, with " << how << ", after " << status;
    ended = true;
    failure = FailureOf(how);
    how.ErasePayload(kCallFailureUrl);
    status = std::move(how);
    if (on_end) on_end();
  }

  Text request;
  Text reply;
  ReplyMetadata metadata;
  bool ended = false;
  // Without the detail that is in failure.
  absl::Status status = absl::UnknownError("the call has not ended");
  std::optional<CallFailure> failure;
  std::function<void()> on_end;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_TEST_CALL_H_
