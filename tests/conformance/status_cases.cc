// How calls end when they do not end with OK.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {
namespace {

// Every code, and the text that implementations of gRPC are tested with.
std::vector<absl::Status> Statuses() {
  constexpr char kOddText[] = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001F608\t\n";
  std::vector<absl::Status> all;
  all.reserve(18);
  for (int code = 1; code <= 16; ++code) {
    all.emplace_back(static_cast<absl::StatusCode>(code), absl::StrCat("the text of ", code));
  }
  all.push_back(absl::UnknownError(kOddText));
  all.push_back(absl::AbortedError(""));
  return all;
}

absl::Status WithDetails() {
  absl::Status status = absl::FailedPreconditionError("with details");
  status.SetPayload("type.googleapis.com/example.Empty", absl::Cord());
  status.SetPayload("type.googleapis.com/example.Binary", absl::Cord(std::string("\0\xff\x80 text", 8)));
  return status;
}

void ExpectUnary(Fixture& fixture, const absl::Status& status, Findings& findings) {
  findings.ExpectStatus(fixture.caller().Unary(EndingWith(status)).status(), status, "a unary call");
}

void ExpectStreams(Fixture& fixture, const absl::Status& status, Findings& findings) {
  Request request = EndingWith(status);
  request.add_reply_sizes(10);

  const std::unique_ptr<StreamCall> up = fixture.caller().Upload();
  up->Write(request);
  findings.ExpectStatus(up->Finish().status(), status, "an upload");

  Reply reply;
  const std::unique_ptr<StreamCall> down = fixture.caller().Download(request);
  findings.Expect(down->Read(reply), "a download has a reply before its status");
  findings.Expect(!down->Read(reply), "a download has one reply");
  findings.ExpectStatus(down->Finish().status(), status, "a download");

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  both->Write(request);
  findings.Expect(both->Read(reply), "a conversation has a reply before its status");
  findings.Expect(!both->Read(reply), "a conversation has one reply");
  findings.ExpectStatus(both->Finish().status(), status, "a conversation");
}

void UnaryStatus(Fixture& fixture, Findings& findings) {
  for (const absl::Status& status : Statuses()) ExpectUnary(fixture, status, findings);
}

void StreamStatus(Fixture& fixture, Findings& findings) {
  for (const absl::Status& status : Statuses()) ExpectStreams(fixture, status, findings);
}

void StatusDetails(Fixture& fixture, Findings& findings) {
  ExpectUnary(fixture, WithDetails(), findings);
  ExpectStreams(fixture, WithDetails(), findings);
}

// What nobody serves says so, whatever its size, and the connection goes on.
void ExpectUnimplemented(Fixture& fixture, Target target, const char* part, Findings& findings) {
  for (const size_t size : {0u, 200'000u}) {
    findings.ExpectError(fixture.caller().Unary(RequestOf(size), {}, target).status(),
                         absl::StatusCode::kUnimplemented, part, "a unary call");
    findings.ExpectOk(fixture.caller().Unary(RequestOf(size)).status(), "a call after it");

    const std::unique_ptr<StreamCall> call = fixture.caller().Converse({}, target);
    call->Write(RequestOf(size));
    Reply reply;
    findings.Expect(!call->Read(reply), "there is no reply");
    findings.ExpectError(call->Finish().status(), absl::StatusCode::kUnimplemented, part, "a conversation");
    const std::unique_ptr<StreamCall> next = fixture.caller().Converse();
    findings.ExpectOk(next->Finish().status(), "a conversation after it");
  }
}

void UnimplementedMethod(Fixture& fixture, Findings& findings) {
  ExpectUnimplemented(fixture, Target::kMissingMethod, "Conformance/Missing", findings);
}

void UnimplementedService(Fixture& fixture, Findings& findings) {
  ExpectUnimplemented(fixture, Target::kAbsentService, "no method has id 0x", findings);
}

}  // namespace

std::vector<Case> StatusCases() {
  return {
      {.name = "UnaryStatus", .served = UnaryStatus},
      {.name = "StreamStatus", .served = StreamStatus},
      {.name = "StatusDetails", .served = StatusDetails},
      {.name = "UnimplementedMethod", .served = UnimplementedMethod},
      {.name = "UnimplementedService", .served = UnimplementedService},
  };
}

}  // namespace ferry::test::conformance
