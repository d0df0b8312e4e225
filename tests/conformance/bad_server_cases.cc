// Clients whose server does not answer as it must, or goes away: never a truncated OK, never a hang.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/raw_calls.h"
#include "tests/testing/raw_peer.h"

namespace ferry::test::conformance {
namespace {

using absl::StatusCode;
using transport::FrameType;
using transport::kEndStream;
using transport::StreamId;

enum class Kind { kUnary, kUpload, kDownload, kConverse };
constexpr Kind kKinds[] = {Kind::kUnary, Kind::kUpload, Kind::kDownload, Kind::kConverse};

const char* Name(Kind kind) {
  switch (kind) {
    case Kind::kUnary:
      return "unary call";
    case Kind::kUpload:
      return "upload";
    case Kind::kDownload:
      return "download";
    case Kind::kConverse:
      return "conversation";
  }
  return "";
}

bool StreamsReplies(Kind kind) { return kind == Kind::kDownload || kind == Kind::kConverse; }

// A ScriptedCall is a call of any kind to a server of which the test says every byte.
class ScriptedCall {
 public:
  ScriptedCall(const Mode& mode, Kind kind, Findings& findings)
      : what_(absl::StrCat("the ", Name(kind))), findings_(findings), server_(mode) {
    Begin(kind);
    peer_ = &server_.Accept(findings);
    const std::optional<ReceivedFrame> request = NextFrame(*peer_, findings);
    if (!request.has_value()) return;
    findings.Expect(request->header.type == FrameType::kRequest, "the client sends a REQUEST");
    stream_ = request->header.stream;
  }

  RawPeer& peer() { return *peer_; }
  StreamId stream() const { return stream_; }

  // Reads what replies there are, and how the call ends.
  absl::StatusOr<Reply> Finish() {
    if (unary_ != nullptr) return unary_->Wait();
    Reply reply;
    while (reads_ && call_->Read(reply)) replies_.push_back(std::exchange(reply, {}));
    return call_->Finish();
  }
  const std::vector<Reply>& replies() const { return replies_; }

  // Expects it to end with an error.
  void ExpectError(StatusCode code, absl::string_view part) {
    findings_.ExpectError(Finish().status(), code, part, what_);
  }
  const std::string& what() const { return what_; }

 private:
  void Begin(Kind kind) {
    reads_ = StreamsReplies(kind);
    if (kind == Kind::kUnary) unary_ = server_.caller().StartUnary(RequestOf(10));
    if (kind == Kind::kUpload) call_ = server_.caller().Upload();
    if (kind == Kind::kDownload) call_ = server_.caller().Download(RequestOf(10));
    if (kind == Kind::kConverse) call_ = server_.caller().Converse();
  }

  const std::string what_;
  Findings& findings_;
  ScriptedServer server_;
  bool reads_ = false;
  // One of them.
  std::unique_ptr<UnaryResult> unary_;
  std::unique_ptr<StreamCall> call_;
  std::vector<Reply> replies_;
  RawPeer* peer_ = nullptr;
  StreamId stream_;
};

std::string EncodedReply(size_t size) { return ReplyOf(size).SerializeAsString(); }

std::string Response(StreamId stream, absl::string_view message) {
  return MessageFrame(FrameType::kResponse, stream, message, kEndStream);
}

// ---------------------------------------------------------------- Other than one message

void TwoReplies(const Mode& mode, Findings& findings) {
  // The first ends a call; the second is of a call that has ended.
  for (const Kind kind : {Kind::kUnary, Kind::kUpload}) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(Response(call.stream(), EncodedReply(100)) + Response(call.stream(), EncodedReply(200)));
    const absl::StatusOr<Reply> reply = call.Finish();
    findings.ExpectOk(reply.status(), call.what());
    if (reply.ok()) findings.Expect(reply->payload() == PatternOf(100), "the first reply is the call's");
    findings.Expect(!call.peer().ended(), "the connection goes on");
  }
  // As a stream has them.
  for (const Kind kind : {Kind::kUnary, Kind::kUpload}) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(MessageFrame(FrameType::kMessage, call.stream(), EncodedReply(100), 0) +
                     Response(call.stream(), EncodedReply(200)));
    call.ExpectError(StatusCode::kUnavailable, "MESSAGE frame has neither MORE nor END_STREAM");
  }
  // A stream's end is no message.
  for (const Kind kind : {Kind::kDownload, Kind::kConverse}) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(MessageFrame(FrameType::kMessage, call.stream(), EncodedReply(100), 0) +
                     Response(call.stream(), EncodedReply(200)));
    call.ExpectError(StatusCode::kInternal, "does not parse");
    findings.ExpectEqual(call.replies().size(), 1u, "the number of replies");
  }
}

void NoReply(const Mode& mode, Findings& findings) {
  for (const Kind kind : {Kind::kUnary, Kind::kUpload}) {
    ScriptedCall ends_without(mode, kind, findings);
    ends_without.peer().Send(MessageFrame(FrameType::kMessage, ends_without.stream(), "", kEndStream));
    ends_without.ExpectError(StatusCode::kInternal, "MESSAGE frame came before RESPONSE");

    ScriptedCall ends_short(mode, kind, findings);
    ends_short.peer().Send(FirstFragment(FrameType::kResponse, ends_short.stream(), 100, "x") +
                           MessageFrame(FrameType::kMessage, ends_short.stream(), "", kEndStream));
    ends_short.ExpectError(StatusCode::kInternal, "fragments have 1 bytes, message_length is 100");
  }
}

// OK is said by a RESPONSE, which has the message; a STATUS of OK has none.
void OkWithoutMessage(const Mode& mode, Findings& findings) {
  wire::StatusHead ok;
  ok.set_code(0);
  for (const Kind kind : kKinds) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(EncodeHeadFrame(FrameType::kStatus, ok.SerializeAsString(), call.stream(), kEndStream));
    call.ExpectError(StatusCode::kInternal, "");
  }
}

// ---------------------------------------------------------------- A server that goes away

enum class Leave { kClose, kFinishWriting };

// Sends `bytes` to a call of each kind, and goes away in each way.
template <typename Bytes>
void GoAwayAfter(const Mode& mode, Findings& findings, size_t whole_replies, Bytes bytes) {
  for (const Kind kind : kKinds) {
    for (const Leave leave : {Leave::kClose, Leave::kFinishWriting}) {
      ScriptedCall call(mode, kind, findings);
      call.peer().Send(bytes(kind, call.stream()));
      if (leave == Leave::kClose) call.peer().Close();
      if (leave == Leave::kFinishWriting) call.peer().FinishWriting();
      call.ExpectError(StatusCode::kUnavailable, "");
      findings.ExpectEqual(call.replies().size(), StreamsReplies(kind) ? whole_replies : 0,
                           absl::StrCat("the number of replies of ", call.what()));
      for (const Reply& reply : call.replies()) {
        findings.Expect(reply.payload() == PatternOf(100), "a reply that was read is whole");
      }
    }
  }
}

// The frame that answers a call of this kind.
std::string Answer(Kind kind, StreamId stream) {
  return StreamsReplies(kind) ? MessageFrame(FrameType::kMessage, stream, EncodedReply(100), 0)
                              : Response(stream, EncodedReply(100));
}

void ServerGoneAfterHeader(const Mode& mode, Findings& findings) {
  GoAwayAfter(mode, findings, 0, [](Kind kind, StreamId stream) {
    return Answer(kind, stream).substr(0, transport::kFrameHeaderSize);
  });
}

void ServerGoneDuringData(const Mode& mode, Findings& findings) {
  GoAwayAfter(mode, findings, 0, [](Kind kind, StreamId stream) {
    const std::string answer = Answer(kind, stream);
    return answer.substr(0, answer.size() - 1);
  });
}

void ServerGoneAfterData(const Mode& mode, Findings& findings) {
  // Between the fragments of one message.
  GoAwayAfter(mode, findings, 0, [](Kind kind, StreamId stream) {
    const std::string reply = EncodedReply(100);
    return FirstFragment(StreamsReplies(kind) ? FrameType::kMessage : FrameType::kResponse, stream,
                         reply.size(), absl::string_view(reply).substr(0, 50));
  });
  // All of a message, but not the call's end.
  for (const Kind kind : {Kind::kDownload, Kind::kConverse}) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(Answer(kind, call.stream()));
    call.peer().FinishWriting();
    call.ExpectError(StatusCode::kUnavailable, "");
    findings.ExpectEqual(call.replies().size(), 1u, "the number of replies");
  }
  // All of the call.
  for (const Kind kind : kKinds) {
    ScriptedCall call(mode, kind, findings);
    call.peer().Send(Answer(kind, call.stream()) +
                     (StreamsReplies(kind) ? Response(call.stream(), "") : std::string()));
    call.peer().FinishWriting();
    findings.ExpectOk(call.Finish().status(), absl::StrCat(call.what(), " that was answered"));
  }
}

}  // namespace

std::vector<Case> BadServerCases() {
  return {
      {.name = "TwoReplies", .scripted = TwoReplies},
      {.name = "NoReply", .scripted = NoReply},
      {.name = "OkWithoutMessage", .scripted = OkWithoutMessage},
      {.name = "ServerGoneAfterHeader", .scripted = ServerGoneAfterHeader},
      {.name = "ServerGoneDuringData", .scripted = ServerGoneDuringData},
      {.name = "ServerGoneAfterData", .scripted = ServerGoneAfterData},
  };
}

}  // namespace ferry::test::conformance
