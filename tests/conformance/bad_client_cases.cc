// Servers whose client does not ask as it must, or goes away: no handler takes a part for the whole, none is
// left.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/check.h"
#include "ferry/transport/frame.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/raw_calls.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/raw_peer.h"

namespace ferry::test::conformance {
namespace {

using absl::StatusCode;
using transport::FrameType;
using transport::kEndStream;
using transport::StreamId;

constexpr uint32_t kSlot = 1;
constexpr StreamId kStream = StreamId::Make(kSlot, 0);
constexpr StreamId kOther = StreamId::Make(2, 0);

std::string Encoded(size_t size) { return RequestOf(size).SerializeAsString(); }

std::string EncodedSleep() {
  Request request;
  request.set_sleep(true);
  return request.SerializeAsString();
}

// A REQUEST that is all of its call's requests; for a stream of them, that begins it.
std::string Whole(absl::string_view method, absl::string_view message, uint32_t slot = kSlot) {
  return EncodeRequest({.slot = slot, .method = IdOf(method), .message = std::string(message)});
}
std::string Begin(absl::string_view method) {
  return EncodeRequest({.slot = kSlot, .method = IdOf(method), .flags = 0});
}
std::string Part(absl::string_view message, uint8_t flags = 0) {
  return MessageFrame(FrameType::kMessage, kStream, message, flags);
}

// A REQUEST that begins a message of `total` bytes.
std::string BeginFragments(absl::string_view method, uint64_t total, absl::string_view message) {
  absl::StatusOr<std::string> head = EncodeRequestHead({}, total, WireSettings().max_head);
  FERRY_CHECK(head.ok(), "a head cannot be encoded");
  return EncodeRequest({.slot = kSlot,
                        .method = IdOf(method),
                        .flags = transport::kMore,
                        .head = *std::move(head),
                        .message = std::string(message)});
}

// The next frame ends the call, or with slot 0 the connection.
void ExpectStatus(RawPeer& peer, uint32_t slot, StatusCode code, absl::string_view part, Findings& findings) {
  const std::optional<ReceivedFrame> frame = NextFrame(peer, findings);
  if (!frame.has_value()) return;
  findings.ExpectEqual(frame->header.stream.slot(), slot, "a STATUS frame's slot");
  findings.Expect(frame->header.type == FrameType::kStatus, "the frame is STATUS");
  if (frame->header.type != FrameType::kStatus) return;
  findings.ExpectError(frame->status().status, code, part, "the call or connection");
}

// The connection still serves calls.
void ExpectServed(RawPeer& peer, Findings& findings) {
  peer.Send(Whole("Unary", Encoded(10), kOther.slot()));
  const std::optional<ReceivedFrame> frame = NextFrame(peer, findings);
  if (!frame.has_value()) return;
  findings.Expect(frame->header.type == FrameType::kResponse, "the next call is answered");
  findings.ExpectEqual(frame->header.stream.slot(), kOther.slot(), "that answer's slot");
}

// ---------------------------------------------------------------- Other than one message

void TwoRequests(Fixture& fixture, Findings& findings) {
  size_t slept = 0;
  for (const char* method : {"Unary", "Download"}) {
    // A second message, or the call once more: while the call is in use the connection is broken.
    for (const std::string& second : {Part(Encoded(10)), Part(Encoded(10), kEndStream), Part("", kEndStream),
                                      Whole(method, Encoded(10))}) {
      const std::unique_ptr<RawPeer> peer = fixture.ConnectRaw(findings);
      peer->Send(Whole(method, EncodedSleep()));
      findings.Expect(fixture.log().WaitForSlept(++slept), "the handler waits");
      peer->Send(second);
      ExpectStatus(*peer, 0, StatusCode::kInternal, "frame is on slot 1, ", findings);
      findings.Expect(e2e::Eventually([&] { return peer->ended(); }), "the connection ends");
    }
  }
  findings.Expect(fixture.log().WaitUntilIdle(), "every handler ends");
  findings.ExpectEqual(fixture.log().counts().cancelled, slept, "the number of cancelled handlers");
}

void NoRequest(Fixture& fixture, Findings& findings) {
  const struct {
    std::string bytes;
    StatusCode code;
    const char* part;
  } kCalls[] = {
      {Begin("Unary") + Part("", kEndStream), StatusCode::kUnimplemented, "takes one request, not a stream"},
      {Begin("Download") + Part("", kEndStream), StatusCode::kUnimplemented,
       "takes one request, not a stream"},
      {BeginFragments("Unary", 100, "x") + Part("", kEndStream), StatusCode::kInternal,
       "message_length is 100"},
      // And the reverse.
      {Whole("Upload", Encoded(10)), StatusCode::kUnimplemented, "takes a stream"},
      {Whole("Converse", Encoded(10)), StatusCode::kUnimplemented, "takes a stream"},
  };
  for (const auto& call : kCalls) {
    const std::unique_ptr<RawPeer> peer = fixture.ConnectRaw(findings);
    peer->Send(call.bytes);
    ExpectStatus(*peer, kSlot, call.code, call.part, findings);
    ExpectServed(*peer, findings);
  }
  findings.Expect(fixture.log().WaitUntilIdle(), "every handler ends");
  findings.ExpectEqual(fixture.log().counts().begun, std::size(kCalls), "the number of handlers that ran");
}

// ---------------------------------------------------------------- A client that goes away

enum class Leave { kClose, kFinishWriting };

// What a client sends before it goes away, and whether a handler begins by then.
struct Start {
  std::string bytes;
  bool begins = false;
};

// Sends each of `starts` on a connection of its own and goes away, in each way. No handler of theirs ends
// well.
void GoAwayAfter(Fixture& fixture, Findings& findings, const std::vector<Start>& starts) {
  size_t begun = 0;
  for (const Start& start : starts) {
    for (const Leave leave : {Leave::kClose, Leave::kFinishWriting}) {
      const std::unique_ptr<RawPeer> peer = fixture.ConnectRaw(findings);
      peer->Send(start.bytes);
      if (start.begins) findings.Expect(fixture.log().WaitForBegun(++begun), "the handler begins");
      if (leave == Leave::kClose) {
        peer->Close();
        continue;
      }
      peer->FinishWriting();
      findings.Expect(e2e::Eventually([&] { return peer->ended(); }), "the server ends the connection");
      for (const ReceivedFrame& frame : peer->TakeFrames()) {
        findings.Expect(frame.header.type != FrameType::kResponse, "no such call ends with OK");
      }
    }
  }
  findings.Expect(fixture.log().WaitUntilIdle(), "every handler ends");
  const HandlerLog::Counts counts = fixture.log().counts();
  findings.ExpectEqual(counts.begun, begun, "the number of handlers");
  findings.ExpectEqual(counts.cancelled, begun, "the number of cancelled handlers");
}

void ClientGoneAfterHeader(Fixture& fixture, Findings& findings) {
  std::vector<Start> starts;
  for (const char* method : {"Unary", "Download", "Upload", "Converse"}) {
    const bool streams = method == absl::string_view("Upload") || method == absl::string_view("Converse");
    // The header; the header and a part of the prefix.
    for (const size_t size : {transport::kFrameHeaderSize, transport::kFrameHeaderSize + 5}) {
      starts.push_back({(streams ? Begin(method) : Whole(method, Encoded(100))).substr(0, size)});
    }
    if (!streams) continue;
    starts.push_back({Begin(method) + Part(Encoded(100)).substr(0, transport::kFrameHeaderSize), true});
  }
  GoAwayAfter(fixture, findings, starts);
}

void ClientGoneDuringData(Fixture& fixture, Findings& findings) {
  std::vector<Start> starts;
  for (const char* method : {"Unary", "Download"}) {
    const std::string request = Whole(method, Encoded(100));
    starts.push_back({request.substr(0, request.size() - 1)});
  }
  for (const char* method : {"Upload", "Converse"}) {
    const std::string part = Part(Encoded(100), kEndStream);
    starts.push_back({Begin(method) + Part(Encoded(50)) + part.substr(0, part.size() - 1), true});
  }
  GoAwayAfter(fixture, findings, starts);
}

void ClientGoneAfterData(Fixture& fixture, Findings& findings) {
  const std::string request = Encoded(100);
  std::vector<Start> starts;
  for (const char* method : {"Unary", "Download"}) {
    // Between the fragments of one request.
    starts.push_back({BeginFragments(method, request.size(), request.substr(0, 50))});
  }
  for (const char* method : {"Upload", "Converse"}) {
    // Between the requests; between the fragments of one.
    starts.push_back({Begin(method) + Part(request), true});
    starts.push_back({Begin(method) + FirstFragment(FrameType::kMessage, kStream, request.size(),
                                                    absl::string_view(request).substr(0, 50)),
                      true});
  }
  GoAwayAfter(fixture, findings, starts);

  // A client that has asked for all it wants, and says so, gets its answer.
  const std::unique_ptr<RawPeer> peer = fixture.ConnectRaw(findings);
  peer->Send(Whole("Unary", request));
  peer->FinishWriting();
  const std::optional<ReceivedFrame> frame = NextFrame(*peer, findings);
  findings.Expect(frame.has_value() && frame->header.type == FrameType::kResponse, "it is answered");
  findings.Expect(e2e::Eventually([&] { return peer->ended(); }), "the server ends the connection");
}

}  // namespace

std::vector<Case> BadClientCases() {
  return {
      {.name = "TwoRequests", .served = TwoRequests},
      {.name = "NoRequest", .served = NoRequest},
      {.name = "ClientGoneAfterHeader", .served = ClientGoneAfterHeader},
      {.name = "ClientGoneDuringData", .served = ClientGoneDuringData},
      {.name = "ClientGoneAfterData", .served = ClientGoneAfterData},
  };
}

}  // namespace ferry::test::conformance
