// What failed calls over real sockets say of themselves.
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/fault_proxy.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

std::string RefusedAddress() {
  Server server({.threads = 1});
  EXPECT_TRUE(server.Listen("127.0.0.1:0").ok());
  return server.addresses()[0];
}

CallFailure FailureIn(const absl::Status& status) {
  const std::optional<CallFailure> failure = FailureOf(status);
  EXPECT_TRUE(failure.has_value()) << status;
  return failure.value_or(CallFailure());
}

TEST(FailureTest, ARefusedConnectionHasItsErrorNumber) {
  const std::string address = RefusedAddress();
  const std::unique_ptr<Channel> channel = ChannelTo(address);
  ConformanceStub stub(*channel);
  // The second call comes while the channel waits before it tries again.
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = stub.EchoInline(Message()).status();
    EXPECT_EQ(status.message(),
              "cannot connect: cannot connect to " + address + ": Connection refused (ECONNREFUSED)");
    const CallFailure failure = FailureIn(status);
    EXPECT_EQ(failure.errno_value(), ECONNREFUSED);
    EXPECT_EQ(failure.phase(), CallFailure::CONNECT);
    EXPECT_EQ(failure.execution(), CallFailure::NOT_SENT);
    EXPECT_EQ(failure.peer(), address);
    EXPECT_EQ(failure.attempt_count(), 0);
    // Nothing else is left in it.
    int payloads = 0;
    status.ForEachPayload([&](absl::string_view, const absl::Cord&) { ++payloads; });
    EXPECT_EQ(payloads, 1);
  }
}

TEST(FailureTest, AMissingUnixSocketHasItsErrorNumber) {
  const TemporaryDirectory directory;
  const std::string address = "unix:" + directory.path() + "/nobody";
  const std::unique_ptr<Channel> channel = ChannelTo(address);
  const absl::Status status = ConformanceStub(*channel).EchoInline(Message()).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("(ENOENT)"));
  const CallFailure failure = FailureIn(status);
  EXPECT_EQ(failure.errno_value(), ENOENT);
  EXPECT_EQ(failure.phase(), CallFailure::CONNECT);
  EXPECT_EQ(failure.peer(), address);
}

TEST(FailureTest, ADeadlineBeforeTheStartHasSentNothing) {
  Served served;
  const absl::Status status = served.stub->EchoInline(Message(), {.timeout = absl::ZeroDuration()}).status();
  const CallFailure failure = FailureIn(status);
  EXPECT_EQ(failure.execution(), CallFailure::NOT_SENT);
  EXPECT_EQ(failure.phase(), CallFailure::PHASE_UNSPECIFIED);
}

TEST(FailureTest, ADeadlineWhileTheHandlerRunsMayHaveExecuted) {
  Served served;
  const absl::Status status = served.stub->Hold(Message(), {.timeout = absl::Milliseconds(500)}).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  const CallFailure failure = FailureIn(status);
  EXPECT_EQ(failure.execution(), CallFailure::MAYBE_EXECUTED);
  EXPECT_EQ(failure.phase(), CallFailure::SENT);
  EXPECT_EQ(failure.peer(), served.address());
  EXPECT_EQ(failure.errno_value(), 0);
  std::move(served.service.TakeHeld()).Finish(absl::OkStatus());
}

TEST(FailureTest, AResetConnectionHasItsErrorNumberAndMayHaveExecuted) {
  Served served;
  absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create(served.address(), {});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  const std::unique_ptr<Channel> channel = ChannelTo((*proxy)->address());
  Later<absl::StatusOr<Message>> reply;
  ConformanceStub(*channel).Hold(Message(), {}, [&](absl::StatusOr<Message> r) { reply.Set(std::move(r)); });
  ASSERT_TRUE(served.service.WaitForHeld(1));
  (*proxy)->ResetConnections();
  const absl::Status status = reply.Wait().status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("(ECONNRESET); the call may have been executed"));
  const CallFailure failure = FailureIn(status);
  EXPECT_EQ(failure.errno_value(), ECONNRESET);
  EXPECT_EQ(failure.execution(), CallFailure::MAYBE_EXECUTED);
  EXPECT_EQ(failure.phase(), CallFailure::SENT);
  EXPECT_EQ(failure.attempt_count(), 1);
  std::move(served.service.TakeHeld()).Finish(absl::OkStatus());
}

TEST(FailureTest, AServiceWhoseServersAreAllGoneHasTheLastErrorNumber) {
  const std::string address = RefusedAddress();
  ManualNames names;
  absl::StatusOr<std::unique_ptr<Channel>> channel = Channel::CreateResolved("greeters", names.Factory());
  ASSERT_TRUE(channel.ok()) << channel.status();
  names.Tell({address});
  const absl::Status status = ConformanceStub(**channel).EchoInline(Message()).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("(ECONNREFUSED)"));
  const CallFailure failure = FailureIn(status);
  EXPECT_EQ(failure.errno_value(), ECONNREFUSED);
  EXPECT_EQ(failure.phase(), CallFailure::CONNECT);
}

TEST(FailureTest, WhatAHandlerAnswersHasNothingOfOurs) {
  Served served;
  Message request;
  request.set_code(5);
  const absl::Status status = served.stub->FailInline(request).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_FALSE(FailureOf(status).has_value());
}

}  // namespace
}  // namespace ferry::test::e2e
