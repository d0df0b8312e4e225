#include "tests/testing/raw_peer.h"

#include <sys/uio.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/preface.h"
#include "gtest/gtest.h"

namespace ferry::test {

using transport::FrameHeader;
using transport::FrameType;
using transport::IoResult;

std::string Preface() {
  std::string preface(transport::kPrefaceSize, '\0');
  transport::EncodePreface(preface.data());
  return preface;
}

std::string EncodeFrame(FrameHeader header, absl::string_view head, absl::string_view message) {
  header.head = static_cast<uint16_t>(head.size());
  header.length = static_cast<uint32_t>(head.size() + message.size());
  std::string bytes(transport::kFrameHeaderSize, '\0');
  EncodeFrameHeader(header, bytes.data());
  return absl::StrCat(bytes, head, message);
}

std::string EncodeRequest(const RawRequest& request) {
  std::string bytes(transport::kFrameHeaderSize + transport::kRequestPrefixSize, '\0');
  const FrameHeader header{.length = static_cast<uint32_t>(transport::kRequestPrefixSize +
                                                           request.head.size() + request.message.size()),
                           .type = FrameType::kRequest,
                           .flags = request.flags,
                           .head = static_cast<uint16_t>(request.head.size()),
                           .stream = transport::StreamId::Make(request.slot, request.generation)};
  EncodeFrameHeader(header, bytes.data());
  EncodeRequestPrefix({.method = request.method, .timeout_us = request.timeout_us},
                      bytes.data() + transport::kFrameHeaderSize);
  return bytes + request.head + request.message;
}

std::string EncodeHeadFrame(FrameType type, absl::string_view head, transport::StreamId stream,
                            uint8_t flags) {
  return EncodeFrame({.type = type, .flags = flags, .stream = stream}, head);
}

std::string EncodeSettingsFrame(const WireSettings& settings) {
  return EncodeHeadFrame(FrameType::kSettings, EncodeSettings(settings));
}

WireStatus ReceivedFrame::status() const {
  EXPECT_EQ(header.type, FrameType::kStatus) << "the frame is " << transport::FrameTypeName(header.type);
  if (header.type != FrameType::kStatus) return {};
  absl::StatusOr<WireStatus> decoded = DecodeStatusHead(frame().head());
  EXPECT_TRUE(decoded.ok()) << decoded.status();
  return decoded.ok() ? *std::move(decoded) : WireStatus();
}

RawPeer::RawPeer(std::unique_ptr<transport::ByteStream> stream, std::function<void()> settle)
    : stream_(std::move(stream)), settle_(std::move(settle)) {}

void RawPeer::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
    const IoResult result = stream_->Write({&part, 1});
    if (result.state == IoResult::State::kFailed) break;
    bytes.remove_prefix(result.bytes);
    settle_();
    if (result.bytes == 0) ReadSome();
  }
}

void RawPeer::FinishWriting() {
  stream_->FinishWriting();
  settle_();
}

const std::string& RawPeer::Received() {
  do {
    settle_();
  } while (ReadSome());
  return input_;
}

std::string RawPeer::TakeBytes() {
  Received();
  return std::exchange(input_, {});
}

bool RawPeer::ReadSome() {
  char buffer[4096];
  const iovec part{.iov_base = buffer, .iov_len = sizeof(buffer)};
  const IoResult result = stream_->Read({&part, 1});
  input_.append(buffer, result.bytes);
  if (result.state == IoResult::State::kEnd) ended_ = true;
  return result.state == IoResult::State::kDone;
}

bool RawPeer::TakePreface() {
  if (!Received().starts_with(Preface())) return false;
  input_.erase(0, transport::kPrefaceSize);
  return true;
}

std::optional<ReceivedFrame> RawPeer::TakeFrame() {
  absl::string_view input = Received();
  absl::StatusOr<std::optional<transport::Frame>> frame =
      transport::TakeFrame(&input, transport::FrameLimits{});
  EXPECT_TRUE(frame.ok()) << frame.status();
  if (!frame.ok() || !frame->has_value()) return std::nullopt;
  ReceivedFrame received{.header = (*frame)->header, .body = std::string((*frame)->body)};
  input_.erase(0, input_.size() - input.size());
  return received;
}

std::vector<ReceivedFrame> RawPeer::TakeFrames() {
  std::vector<ReceivedFrame> frames;
  while (std::optional<ReceivedFrame> frame = TakeFrame()) frames.push_back(*std::move(frame));
  return frames;
}

bool RawPeer::ended() {
  Received();
  return ended_;
}

}  // namespace ferry::test
