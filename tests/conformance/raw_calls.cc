#include "tests/conformance/raw_calls.h"

#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/check.h"
#include "tests/conformance/connectors.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {

using transport::FrameType;
using transport::StreamId;

void Greet(RawPeer& peer, Findings& findings) {
  peer.Send(Preface() + EncodeSettingsFrame({.features = kFlowControlFeature | kStreamingFeature}));
  findings.Expect(e2e::Eventually([&] { return peer.TakePreface(); }), "the other end's preface comes");
  const std::optional<ReceivedFrame> settings = NextFrame(peer, findings);
  if (!settings.has_value()) return;
  findings.Expect(settings->header.type == FrameType::kSettings, "the first frame is SETTINGS");
}

std::optional<ReceivedFrame> NextFrame(RawPeer& peer, Findings& findings) {
  std::optional<ReceivedFrame> frame;
  const bool came = e2e::Eventually([&] {
    do {
      frame = peer.TakeFrame();
    } while (frame.has_value() &&
             (frame->header.type == FrameType::kWindow || frame->header.type == FrameType::kPing));
    return frame.has_value();
  });
  findings.Expect(came, "a frame comes");
  return frame;
}

std::string FirstFragment(FrameType type, StreamId stream, uint64_t total, absl::string_view bytes) {
  // That of a MESSAGE has its length in the same field.
  const absl::StatusOr<std::string> head = EncodeResponseHead({}, {}, total, WireSettings().max_head);
  FERRY_CHECK(head.ok(), "a head cannot be encoded");
  return EncodeFrame({.type = type, .flags = transport::kMore, .stream = stream}, *head, bytes);
}

std::string MessageFrame(FrameType type, StreamId stream, absl::string_view bytes, uint8_t flags) {
  return EncodeFrame({.type = type, .flags = flags, .stream = stream}, {}, bytes);
}

uint64_t IdOf(absl::string_view method) {
  return MethodId(absl::StrCat("ferry.test.conformance.Conformance/", method).c_str());
}

ScriptedServer::ScriptedServer(const Mode& mode) {
  auto connector =
      std::make_unique<PairConnector>(mode.transport, [this](std::unique_ptr<transport::ByteStream> far_end) {
        absl::MutexLock lock(&mutex_);
        ++connections_;
        far_ends_.push_back(std::move(far_end));
        return absl::OkStatus();
      });
  channel_ = *Channel::CreateOver(std::move(connector));
  caller_ = NewCaller(mode.form, *channel_);
}

ScriptedServer::~ScriptedServer() {
  caller_.reset();
  channel_.reset();
}

size_t ScriptedServer::connections() {
  absl::MutexLock lock(&mutex_);
  return connections_;
}

RawPeer& ScriptedServer::Accept(Findings& findings) {
  std::unique_ptr<transport::ByteStream> far_end;
  {
    absl::MutexLock lock(&mutex_);
    const auto connected = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !far_ends_.empty(); };
    FERRY_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&connected), e2e::kLongTime), "no client connects");
    far_end = std::move(far_ends_.front());
    far_ends_.pop_front();
  }
  peer_ = std::make_unique<RawPeer>(std::move(far_end), std::this_thread::yield);
  Greet(*peer_, findings);
  return *peer_;
}

}  // namespace ferry::test::conformance
