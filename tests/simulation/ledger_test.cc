// That the ledger complains of what must not be, and of nothing else.
#include "tests/simulation/ledger.h"

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/simulation/simulation.pb.h"

namespace ferry::simulation {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using transport::Instant;

Message Of(const CallRecord& call, bool reply, uint64_t index, uint64_t digest = 0) {
  Message message;
  message.set_call(call.id);
  message.set_index(index);
  message.set_digest(digest);
  message.set_payload(Payload(call.id, reply, index, 10));
  return message;
}

CallRecord& Begin(Ledger& ledger, CallKind kind, Instant deadline = Instant::Infinite()) {
  CallRecord& call = ledger.Begin(kind, deadline);
  call.asked_for_status = true;
  return call;
}

void Answer(Ledger& ledger, CallRecord& call, const absl::Status& status = absl::OkStatus()) {
  ledger.OnExecuted(call);
  ledger.OnAnswer(call, status);
}

TEST(LedgerTest, DoesNotComplainOfCallsThatGoWell) {
  transport::ManualClock clock;
  Ledger ledger(clock);
  CallRecord& unary = Begin(ledger, CallKind::kUnary);
  unary.request_digest = 17;
  Answer(ledger, unary);
  const Message unary_reply = Of(unary, true, 0, 17);
  ledger.OnEnd(unary, absl::OkStatus(), &unary_reply);

  CallRecord& upload = Begin(ledger, CallKind::kUpload);
  upload.requests_written = 2;
  upload.requests_ended = true;
  ledger.OnRequest(upload, Of(upload, false, 0));
  ledger.OnRequest(upload, Of(upload, false, 1));
  ledger.OnRequestsEnd(upload, false);
  Answer(ledger, upload);
  const Message upload_reply = Of(upload, true, 0, 2);
  ledger.OnEnd(upload, absl::OkStatus(), &upload_reply);

  CallRecord& watch = Begin(ledger, CallKind::kWatch);
  watch.replies_written = 1;
  ledger.OnReply(watch, Of(watch, true, 0));
  ledger.OnRepliesEnd(watch);
  Answer(ledger, watch);
  ledger.OnEnd(watch, absl::OkStatus(), nullptr);

  CallRecord& refused = Begin(ledger, CallKind::kUnary);
  Answer(ledger, refused, absl::NotFoundError("no"));
  ledger.OnEnd(refused, absl::NotFoundError("no"), nullptr);

  CallRecord& late = Begin(ledger, CallKind::kUnary, clock.Now() + absl::Seconds(1));
  clock.Advance(absl::Seconds(1));
  ledger.OnEnd(late, absl::DeadlineExceededError("late"), nullptr);

  ledger.CheckPunctual();
  ledger.CheckAllEnded();
  EXPECT_TRUE(ledger.all_ended());
  EXPECT_THAT(ledger.complaints(), IsEmpty());
}

TEST(LedgerTest, ComplainsOfWhatMustNotBe) {
  struct Case {
    const char* name;
    CallKind kind;
    std::function<void(Ledger&, transport::ManualClock&, CallRecord&)> wrong;
    const char* complaint;
  };
  const Case kCases[] = {
      {"ends twice", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         call.cancelled = true;
         ledger.OnEnd(call, absl::CancelledError("a"), nullptr);
         ledger.OnEnd(call, absl::CancelledError("b"), nullptr);
       },
       "ends 2 times, now with CANCELLED: b"},
      {"executed twice", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         ledger.OnExecuted(call);
         ledger.OnExecuted(call);
       },
       "is executed 2 times"},
      {"OK of nobody", CallKind::kWatch,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         ledger.OnEnd(call, absl::OkStatus(), nullptr);
       },
       "ends with OK, which its handler has not said"},
      {"wrong reply", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         call.request_digest = 17;
         Answer(ledger, call);
         const Message reply = Of(call, true, 0, 18);
         ledger.OnEnd(call, absl::OkStatus(), &reply);
       },
       "with digest 18 instead of 17"},
      {"truncated", CallKind::kTalk,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         call.replies_written = 2;
         ledger.OnReply(call, Of(call, true, 0));
         ledger.OnRepliesEnd(call);
         Answer(ledger, call);
         ledger.OnEnd(call, absl::OkStatus(), nullptr);
       },
       "ends with OK after 1 of 2 replies"},
      {"a reply twice", CallKind::kWatch,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         call.replies_written = 2;
         ledger.OnReply(call, Of(call, true, 0));
         ledger.OnReply(call, Of(call, true, 0));
       },
       "has reply 0 of call 1 as the next after 1"},
      {"requests cut short", CallKind::kUpload,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         call.requests_written = 2;
         call.requests_ended = true;
         ledger.OnRequest(call, Of(call, false, 0));
         ledger.OnRequestsEnd(call, false);
       },
       "has ended its requests for the handler after 1 of 2"},
      {"an early deadline", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock& clock, CallRecord& call) {
         call.deadline = clock.Now() + absl::Nanoseconds(1);
         ledger.OnEnd(call, absl::DeadlineExceededError("early"), nullptr);
       },
       "ends without a reason with DEADLINE_EXCEEDED: early"},
      {"a lost connection that was not", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         ledger.OnEnd(call, absl::UnavailableError("lost"), nullptr);
       },
       "ends without a reason with UNAVAILABLE: lost"},
      {"another error than the handler's", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock&, CallRecord& call) {
         ledger.OnExecuted(call);
         ledger.OnAnswer(call, absl::NotFoundError("a"));
         ledger.OnEnd(call, absl::NotFoundError("b"), nullptr);
       },
       "ends without a reason with NOT_FOUND: b"},
      {"a deadline that is missed", CallKind::kUnary,
       [](Ledger& ledger, transport::ManualClock& clock, CallRecord& call) {
         call.deadline = clock.Now();
         ledger.CheckPunctual();
       },
       "does not end when its time is over"},
      {"hangs", CallKind::kUpload,
       [](Ledger& ledger, transport::ManualClock&, CallRecord&) { ledger.CheckAllEnded(); },
       "upload call 1 does not end"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    transport::ManualClock clock;
    Ledger ledger(clock);
    c.wrong(ledger, clock, Begin(ledger, c.kind));
    ASSERT_THAT(ledger.complaints(), SizeIs(1));
    EXPECT_THAT(ledger.complaints()[0], HasSubstr(c.complaint));
  }
}

}  // namespace
}  // namespace ferry::simulation
