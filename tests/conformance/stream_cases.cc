// Streams that run to their end.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {
namespace {

constexpr size_t kRequests[] = {27'182, 8, 1'828, 45'904};
constexpr uint32_t kReplies[] = {31'415, 9, 2'653, 58'979};

// Reads one reply and compares it.
void ExpectReply(StreamCall& call, size_t received, size_t size, Findings& findings) {
  Reply reply;
  const bool read = call.Read(reply);
  findings.Expect(read, absl::StrCat("there is a reply of ", size, " bytes"));
  if (!read) return;
  findings.ExpectEqual(reply.received(), received, "what the server received before a reply");
  findings.ExpectEqual(reply.payload().size(), size, "the reply's size");
  findings.Expect(reply.payload() == PatternOf(size), "the reply's bytes are right");
}

// Reads to the end, where nothing is to come any more.
void ExpectEnd(StreamCall& call, Findings& findings) {
  Reply reply;
  findings.Expect(!call.Read(reply), "there are no more replies");
  findings.ExpectOk(call.Finish().status(), "the call");
}

void ClientStreaming(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> call = fixture.caller().Upload();
  for (const size_t size : kRequests) findings.Expect(call->Write(RequestOf(size)), "a request is written");
  const absl::StatusOr<Reply> reply = call->Finish();
  findings.ExpectOk(reply.status(), "the call");
  if (reply.ok()) findings.ExpectEqual(reply->received(), 74'922u, "what the server received");
}

void ServerStreaming(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> call =
      fixture.caller().Download(RequestOf(5, {std::begin(kReplies), std::end(kReplies)}));
  for (const uint32_t size : kReplies) ExpectReply(*call, 5, size, findings);
  ExpectEnd(*call, findings);
}

void PingPong(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> call = fixture.caller().Converse();
  size_t sent = 0;
  for (size_t i = 0; i < std::size(kRequests); ++i) {
    findings.Expect(call->Write(RequestOf(kRequests[i], {kReplies[i]})), "a request is written");
    sent += kRequests[i];
    ExpectReply(*call, sent, kReplies[i], findings);
  }
  findings.Expect(call->WritesDone(), "the requests are ended");
  ExpectEnd(*call, findings);
}

void EmptyStream(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> up = fixture.caller().Upload();
  const absl::StatusOr<Reply> reply = up->Finish();
  findings.ExpectOk(reply.status(), "an upload of nothing");
  if (reply.ok()) findings.ExpectEqual(reply->ByteSizeLong(), 0u, "its encoded reply's size");

  const std::unique_ptr<StreamCall> down = fixture.caller().Download(Request());
  ExpectEnd(*down, findings);

  const std::unique_ptr<StreamCall> both = fixture.caller().Converse();
  findings.Expect(both->WritesDone(), "the requests are ended");
  ExpectEnd(*both, findings);
}

void EmptyMessages(Fixture& fixture, Findings& findings) {
  const std::unique_ptr<StreamCall> call = fixture.caller().Converse();
  for (int i = 0; i < 3; ++i) {
    findings.Expect(call->Write(Request()), "an empty request is written");
    findings.Expect(call->Write(RequestOf(0, {0, 0})), "a request for empty replies is written");
    for (int j = 0; j < 2; ++j) ExpectReply(*call, 0, 0, findings);
  }
  findings.Expect(call->WritesDone(), "the requests are ended");
  ExpectEnd(*call, findings);
}

}  // namespace

std::vector<Case> StreamCases() {
  return {
      {.name = "ClientStreaming", .served = ClientStreaming},
      {.name = "ServerStreaming", .served = ServerStreaming},
      {.name = "PingPong", .served = PingPong},
      {.name = "EmptyStream", .served = EmptyStream},
      {.name = "EmptyMessages", .served = EmptyMessages},
  };
}

}  // namespace ferry::test::conformance
