// What travels beside the messages.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/metadata.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {
namespace {

Metadata Pairs() {
  return {{"text", "some text"},
          {"empty", ""},
          {"unicode", "\u263a \U0001f608"},
          {"binary", std::string("\0\xff\n\r\x80\xab", 6)},
          {"text", "the same key again"}};
}

Metadata PairsWith(const std::string& prefix) {
  Metadata result;
  const Metadata pairs = Pairs();
  for (const auto& [key, value] : pairs.entries()) result.Add(prefix + key, value);
  return result;
}

void ExpectPairs(const ReplyMetadata& metadata, const std::string& what, Findings& findings) {
  findings.Expect(metadata.initial == PairsWith("initial-"), what + " brings its initial metadata");
  findings.Expect(metadata.trailing == PairsWith("trailing-"), what + " brings its trailing metadata");
}

const absl::Status& StatusFor(bool fails) {
  static const absl::Status& ok = *new absl::Status();
  static const absl::Status& error = *new absl::Status(absl::NotFoundError("not there"));
  return fails ? error : ok;
}

void UnaryMetadata(Fixture& fixture, Findings& findings) {
  for (const bool fails : {false, true}) {
    const std::string what = absl::StrCat("a call that ends with ", StatusFor(fails).ToString());
    // Something is in it before.
    ReplyMetadata metadata{.initial = {{"old", "old"}}, .trailing = {{"old", "old"}}};
    const absl::StatusOr<Reply> reply = fixture.caller().Unary(
        EndingWith(StatusFor(fails)), {.metadata = Pairs(), .reply_metadata = &metadata});
    findings.ExpectStatus(reply.status(), StatusFor(fails), what);
    ExpectPairs(metadata, what, findings);
  }
  ReplyMetadata none;
  findings.ExpectOk(fixture.caller().Unary(Request(), {.reply_metadata = &none}).status(), "the next call");
  findings.Expect(none.initial.empty() && none.trailing.empty(), "the next call brings no metadata");
}

// With replies and without, for the first reply brings the initial metadata if there is one.
void StreamMetadata(Fixture& fixture, Findings& findings) {
  for (const bool fails : {false, true}) {
    for (const bool replies : {false, true}) {
      const std::string what =
          absl::StrCat(replies ? "with" : "without", " replies, ending with ", StatusFor(fails).ToString());
      Request request = EndingWith(StatusFor(fails));
      if (replies) request.add_reply_sizes(100);

      ReplyMetadata down;
      const std::unique_ptr<StreamCall> download =
          fixture.caller().Download(request, {.metadata = Pairs(), .reply_metadata = &down});
      Reply reply;
      while (download->Read(reply)) {
      }
      findings.ExpectStatus(download->Finish().status(), StatusFor(fails), "a download " + what);
      ExpectPairs(down, "a download " + what, findings);

      ReplyMetadata both;
      const std::unique_ptr<StreamCall> converse =
          fixture.caller().Converse({.metadata = Pairs(), .reply_metadata = &both});
      converse->Write(request);
      while (converse->Read(reply)) {
      }
      findings.ExpectStatus(converse->Finish().status(), StatusFor(fails), "a conversation " + what);
      ExpectPairs(both, "a conversation " + what, findings);
    }
    ReplyMetadata up;
    const std::unique_ptr<StreamCall> upload =
        fixture.caller().Upload({.metadata = Pairs(), .reply_metadata = &up});
    upload->Write(EndingWith(StatusFor(fails)));
    findings.ExpectStatus(upload->Finish().status(), StatusFor(fails), "an upload");
    ExpectPairs(up, "an upload", findings);
  }
}

}  // namespace

std::vector<Case> MetadataCases() {
  return {
      {.name = "UnaryMetadata", .served = UnaryMetadata},
      {.name = "StreamMetadata", .served = StreamMetadata},
  };
}

}  // namespace ferry::test::conformance
