// Calls that one side ends before the other is done.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {
namespace {

using absl::StatusCode;

// A request after which the handler waits until its call is cancelled.
Request SleepRequest(const std::vector<uint32_t>& reply_sizes = {}) {
  Request request = RequestOf(3, reply_sizes);
  request.set_sleep(true);
  return request;
}

void ExpectCancelled(const absl::Status& status, const char* what, Findings& findings) {
  findings.ExpectError(status, StatusCode::kCancelled, "the caller cancelled the call", what);
}

// All handlers have ended, and `count` of them because they were cancelled.
void ExpectHandlersCancelled(Fixture& fixture, size_t count, Findings& findings) {
  findings.Expect(fixture.log().WaitUntilIdle(), "every handler ends");
  findings.ExpectEqual(fixture.log().counts().cancelled, count, "the number of cancelled handlers");
}

// ---------------------------------------------------------------- The client cancels

// Whether a handler ever sees such a call is open.
void CancelBeforeFirstMessage(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> up = fixture.caller().Upload();
  up->Cancel();
  findings.Expect(!up->Write(RequestOf(10)), "nothing can be written to a cancelled upload");
  ExpectCancelled(up->Finish().status(), "an upload", findings);

  Reply reply;
  const std::unique_ptr<StreamCall> down = fixture.caller().Download(SleepRequest());
  down->Cancel();
  findings.Expect(!down->Read(reply), "a cancelled download has no reply");
  ExpectCancelled(down->Finish().status(), "a download", findings);

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  both->Cancel();
  findings.Expect(!both->Write(RequestOf(10)), "nothing can be written to a cancelled conversation");
  findings.Expect(!both->Read(reply), "a cancelled conversation has no reply");
  ExpectCancelled(both->Finish().status(), "a conversation", findings);

  std::stop_source stopped;
  stopped.request_stop();
  const absl::StatusOr<Reply> unary =
      fixture.caller().Unary(SleepRequest(), {.stop_token = stopped.get_token()});
  findings.ExpectEqual(static_cast<int>(unary.status().code()), static_cast<int>(StatusCode::kCancelled),
                       "a unary call's code");
}

void CancelAfterFirstResponse(Fixture& fixture, Findings& findings) {
  Reply reply;
  // More replies than fit a window: the handler is writing, or waits to.
  const std::unique_ptr<StreamCall> down =
      fixture.caller().Download(RequestOf(0, std::vector<uint32_t>(100, 100'000)));
  findings.Expect(down->Read(reply), "a download has a first reply");
  down->Cancel();
  ExpectCancelled(down->Finish().status(), "a download", findings);

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  findings.Expect(both->Write(RequestOf(10, {10})), "a request is written");
  findings.Expect(both->Read(reply), "a conversation has a first reply");
  both->Cancel();
  findings.Expect(!both->Write(RequestOf(10)), "nothing can be written to a cancelled conversation");
  findings.Expect(!both->Read(reply), "a cancelled conversation has no reply");
  ExpectCancelled(both->Finish().status(), "a conversation", findings);
  ExpectHandlersCancelled(fixture, 2, findings);
}

void CancelAfterHalfClose(Fixture& fixture, Findings& findings) {
  Reply reply;
  const std::unique_ptr<StreamCall> down = fixture.caller().Download(SleepRequest());
  findings.Expect(fixture.log().WaitForSlept(1), "the download's handler waits");
  down->Cancel();
  findings.Expect(!down->Read(reply), "a cancelled download has no reply");
  ExpectCancelled(down->Finish().status(), "a download", findings);

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  findings.Expect(both->Write(SleepRequest({10})), "a request is written");
  findings.Expect(both->WritesDone(), "the requests are ended");
  findings.Expect(fixture.log().WaitForSlept(2), "the conversation's handler waits");
  both->Cancel();
  ExpectCancelled(both->Finish().status(), "a conversation", findings);

  std::stop_source source;
  const std::unique_ptr<UnaryResult> unary =
      fixture.caller().StartUnary(SleepRequest(), {.stop_token = source.get_token()});
  findings.Expect(fixture.log().WaitForSlept(3), "the unary call's handler waits");
  source.request_stop();
  findings.ExpectEqual(static_cast<int>(unary->Wait().status().code()),
                       static_cast<int>(StatusCode::kCancelled), "a unary call's code");

  // Finish ends an upload's requests, and waits.
  const std::unique_ptr<StreamCall> up = fixture.caller().Upload();
  findings.Expect(up->Write(SleepRequest()), "a request is written");
  absl::Status uploaded;
  std::thread finisher([&up, &uploaded] { uploaded = up->Finish().status(); });
  findings.Expect(fixture.log().WaitForSlept(4), "the upload's handler waits");
  up->Cancel();
  finisher.join();
  ExpectCancelled(uploaded, "an upload", findings);
  ExpectHandlersCancelled(fixture, 4, findings);
}

// ---------------------------------------------------------------- Time is over

// Whether it is over before a handler sees the call is open.
void DeadlineOnSleepingServer(Fixture& fixture, Findings& findings) {
  const CallOptions options{.timeout = absl::Milliseconds(1)};
  const auto expect = [&findings](const absl::Status& status, const char* what) {
    findings.ExpectError(status, StatusCode::kDeadlineExceeded, "deadline", what);
  };
  expect(fixture.caller().Unary(SleepRequest(), options).status(), "a unary call");

  Reply reply;
  const std::unique_ptr<StreamCall> up = fixture.caller().Upload(options);
  up->Write(SleepRequest());
  expect(up->Finish().status(), "an upload");

  const std::unique_ptr<StreamCall> down = fixture.caller().Download(SleepRequest(), options);
  findings.Expect(!down->Read(reply), "a download has no reply");
  expect(down->Finish().status(), "a download");

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse(options);
  findings.Expect(!both->Read(reply), "a conversation has no reply");
  expect(both->Finish().status(), "a conversation");
}

// ---------------------------------------------------------------- The server ends early

// Writes what `end` says, and then until nobody takes it.
void WriteOnAfter(StreamCall& call, const Request& end, Findings& findings) {
  findings.Expect(call.Write(RequestOf(11)), "a request is written");
  call.Write(end);
  while (call.Write(RequestOf(60'000))) {
  }
}

void ServerEndsEarly(Fixture& fixture, const absl::Status& status, Findings& findings) {
  const std::unique_ptr<StreamCall> up = fixture.caller().Upload();
  WriteOnAfter(*up, EndingWith(status), findings);
  const absl::StatusOr<Reply> reply = up->Finish();
  findings.ExpectStatus(reply.status(), status, "an upload");
  if (reply.ok()) findings.ExpectEqual(reply->received(), 11u, "what the server received");

  Request end = EndingWith(status);
  end.add_reply_sizes(70'000);
  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  WriteOnAfter(*both, end, findings);
  Reply last;
  findings.Expect(both->Read(last), "the reply before the end is read after it");
  findings.Expect(last.payload() == PatternOf(70'000), "that reply's bytes are right");
  findings.Expect(!both->Read(last), "it is the last");
  findings.ExpectStatus(both->Finish().status(), status, "a conversation");
}

void ServerEndsEarlyWithOk(Fixture& fixture, Findings& findings) {
  ServerEndsEarly(fixture, absl::OkStatus(), findings);
}

void ServerEndsEarlyWithError(Fixture& fixture, Findings& findings) {
  ServerEndsEarly(fixture, absl::InvalidArgumentError("enough"), findings);
}

}  // namespace

std::vector<Case> EndingCases() {
  return {
      {.name = "CancelBeforeFirstMessage", .served = CancelBeforeFirstMessage},
      {.name = "CancelAfterFirstResponse", .served = CancelAfterFirstResponse},
      {.name = "CancelAfterHalfClose", .served = CancelAfterHalfClose},
      {.name = "DeadlineOnSleepingServer", .served = DeadlineOnSleepingServer},
      {.name = "ServerEndsEarlyWithOk", .served = ServerEndsEarlyWithOk},
      {.name = "ServerEndsEarlyWithError", .served = ServerEndsEarlyWithError},
  };
}

}  // namespace ferry::test::conformance
