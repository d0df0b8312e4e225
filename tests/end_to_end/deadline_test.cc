// How long calls may take, and how they end before they are done.
#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

constexpr int64_t kHour = int64_t{3600} * 1'000'000'000;

TEST(DeadlineTest, IsSeenByTheHandler) {
  for (const std::string& transport : AvailableTransports()) {
    SCOPED_TRACE(transport);
    Served served(transport);
    const absl::StatusOr<Message> reply = served.stub->Describe(Message(), {.timeout = absl::Hours(1)});
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_LE(reply->time_left(), kHour);
    EXPECT_GT(reply->time_left(), kHour * 9 / 10);
  }
}

TEST(DeadlineTest, ThereIsNoneUnlessSomebodySaysSo) {
  Served served;
  const std::optional<absl::Duration> kNone[] = {std::nullopt, absl::InfiniteDuration(),
                                                 absl::Hours(24 * 365)};
  for (const std::optional<absl::Duration>& timeout : kNone) {
    const absl::StatusOr<Message> reply = served.stub->Describe(Message(), {.timeout = timeout});
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->time_left(), -1);
  }
}

TEST(DeadlineTest, ComesFromTheProtoUnlessTheCallerNamesOne) {
  Served served;
  absl::StatusOr<Message> reply = served.stub->DescribeWithTimeout(Message());
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_LE(reply->time_left(), kHour);
  EXPECT_GT(reply->time_left(), kHour * 9 / 10);

  reply = served.stub->DescribeWithTimeout(Message(), {.timeout = absl::Minutes(30)});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_LE(reply->time_left(), kHour / 2);

  reply = served.stub->DescribeWithTimeout(Message(), {.timeout = absl::InfiniteDuration()});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->time_left(), -1);
}

TEST(DeadlineTest, OfNothingLeftSendsNothing) {
  Served served;
  for (const absl::Duration timeout : {absl::ZeroDuration(), absl::Seconds(-1), -absl::InfiniteDuration()}) {
    for (const Form form : kForms) {
      SCOPED_TRACE(absl::StrCat(absl::FormatDuration(timeout), ", ", FormName(form)));
      const absl::Status status =
          Call(*served.stub, kEchoes[0], form, Message(), {.timeout = timeout}).status();
      EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "nothing was sent")) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), absl::FormatDuration(timeout))) << status;
    }
  }
}

TEST(DeadlineTest, EndsACallThatNobodyAnswers) {
  Served served;
  absl::Duration timeout = absl::Milliseconds(5);
  for (int ended = 0; ended < 4;) {
    const absl::Status status = served.stub->Hold(Message(), {.timeout = timeout}).status();
    EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
    // What was sent before this call has reached its handler by now, or never will: on a busy machine the
    // deadline may pass first.
    ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
    if (served.service.held() == 0) {
      timeout *= 2;
      ASSERT_LT(timeout, kLongTime);
      continue;
    }
    ++ended;
    EXPECT_TRUE(absl::StrContains(status.message(), "Conformance/Hold")) << status;
    HeldCall held = served.service.TakeHeld();
    EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
    // The client's CANCEL may come before the server's own clock says so.
    EXPECT_TRUE(Eventually([&] { return held.context().time_left() == absl::ZeroDuration(); }));
    std::move(held).Finish(absl::OkStatus());
    // What the handler says too late is of no consequence.
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  }
}

TEST(DeadlineTest, OfTheProtoEndsACall) {
  Served served;
  const absl::Status status = served.stub->HoldBriefly(Message()).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
}

TEST(DeadlineTest, ReachesAHandlerThatWaits) {
  Served served;
  const absl::Status status =
      served.stub->WaitUntilCancelled(Message(), {.timeout = absl::Milliseconds(20)}).status();
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << status;
}

TEST(DeadlineTest, EndsManyCallsEachAtItsTime) {
  Served served;
  std::vector<Later<absl::Status>> ended(100);
  for (size_t i = 0; i < ended.size(); ++i) {
    // The later calls have the earlier deadlines.
    served.stub->Hold(Message(), {.timeout = absl::Milliseconds(200 - i)},
                      [&ended, i](const absl::StatusOr<Message>& reply) { ended[i].Set(reply.status()); });
  }
  for (Later<absl::Status>& status : ended) EXPECT_EQ(status.Wait().code(), StatusCode::kDeadlineExceeded);
}

// ---------------------------------------------------------------- The client goes away

TEST(CancelTest, DestroyingTheChannelCancelsItsCalls) {
  for (const std::string& transport : AvailableTransports()) {
    SCOPED_TRACE(transport);
    Served served(transport, {.threads = 2, .executor_threads = 4});
    std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    Later<absl::Status> ended, ended_too;
    stub.Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
    stub.WaitUntilCancelled(Message(), {},
                            [&](const absl::StatusOr<Message>& reply) { ended_too.Set(reply.status()); });
    HeldCall held = served.service.TakeHeld();
    ASSERT_TRUE(served.service.WaitForWaiting(1));
    EXPECT_FALSE(held.context().cancelled());

    channel.reset();
    EXPECT_EQ(Plain(ended.Wait()), absl::CancelledError("the channel was destroyed"));
    EXPECT_EQ(Plain(ended_too.Wait()), absl::CancelledError("the channel was destroyed"));
    EXPECT_TRUE(Eventually([&] { return held.context().cancelled(); }));
    EXPECT_TRUE(served.service.WaitForCancelled(1));
    std::move(held).Finish(absl::OkStatus());
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  }
}

}  // namespace
}  // namespace ferry::test::e2e
