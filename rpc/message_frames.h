// A message on its way out, as one frame or several.
#ifndef FERRY_RPC_MESSAGE_FRAMES_H_
#define FERRY_RPC_MESSAGE_FRAMES_H_

#include <google/protobuf/message_lite.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/base/attributes.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/frame.h"

namespace ferry {

// Below this, encoding under the output mutex costs less than referring to a block.
inline constexpr size_t kMaxGathered = 4 * 1024;

// What every receiver accepts in a frame (PROTOCOL.md section 5).
inline constexpr size_t kLeastMaxFrame = 81'932;

// The most bytes of a message that may stand in a frame beside a head of `head` bytes.
constexpr size_t FragmentLimit(size_t head) {
  return std::min<size_t>(kMaxFragment, kLeastMaxFrame - transport::kRequestPrefixSize - head);
}

// Whether a message of `size` bytes, beside a head that says more than its length or not, may need several
// frames: then the head must say the length.
constexpr bool NeedsLength(size_t size, bool has_head) {
  return size > (has_head ? 16 * 1024 : kMaxFragment);
}

// An EncodedMessage is a message in its wire form.
struct EncodedMessage {
  transport::Block block = {};
  // Lies in the block.
  absl::string_view bytes = {};
};

// The wire form of `message`, in a block that may be sent on `connection`. `size` is message.ByteSizeLong(),
// just called.
EncodedMessage Encode(const google::protobuf::MessageLite& message, size_t size,
                      transport::Connection& connection);

// The same of one that is encoded already.
EncodedMessage EncodedCopy(absl::string_view bytes, transport::Connection& connection);

// A MessageFrames says how the frames of one message begin; all but type and stream are optional.
struct MessageFrames {
  transport::FrameType type{};
  transport::StreamId stream = {};
  // 0 normal, 1 high, 2 low (PROTOCOL.md [P3.7]).
  uint8_t priority = 0;
  // Of a REQUEST: what its prefix says. The time left is computed from `deadline` when the frame is written.
  uint64_t method = 0;
  transport::Instant deadline = transport::Instant::Infinite();
  const transport::Clock* clock = nullptr;
  // The encoded head of the first frame; must say the message's length if NeedsLength.
  absl::string_view head = {};
};

// What is left until the deadline, as the wire has it. REQUIRES: there is one.
uint32_t WireTimeLeft(const MessageFrames& frames);

// What stands before the message in its first frame, in bytes.
inline size_t SizeBeforeMessage(const MessageFrames& frames) {
  const size_t prefix = frames.type == transport::FrameType::kRequest ? transport::kRequestPrefixSize : 0;
  return transport::kFrameHeaderSize + prefix + frames.head.size();
}

// Writes that, for a frame with `fragment` bytes of the message; returns where those go.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline char* WriteBeforeMessage(const MessageFrames& frames, size_t fragment,
                                                             uint8_t flags, char* out) {
  const size_t length = SizeBeforeMessage(frames) - transport::kFrameHeaderSize + fragment;
  transport::EncodeFrameHeader({.length = static_cast<uint32_t>(length),
                                .type = frames.type,
                                .flags = flags,
                                .attr = transport::MakeAttr(frames.priority, 0),
                                .head = static_cast<uint16_t>(frames.head.size()),
                                .stream = frames.stream},
                               out);
  out += transport::kFrameHeaderSize;
  if (frames.type == transport::FrameType::kRequest) {
    const bool has_deadline = frames.deadline != transport::Instant::Infinite();
    EncodeRequestPrefix({.method = frames.method, .timeout_us = has_deadline ? WireTimeLeft(frames) : 0},
                        out);
    out += transport::kRequestPrefixSize;
  }
  if (!frames.head.empty()) std::memcpy(out, frames.head.data(), frames.head.size());
  return out + frames.head.size();
}

// Appends `message`, of `size` = message.ByteSizeLong() just called, in one frame, as the last of its sender
// on the stream; the caller then does as Connection::Append says. At most FragmentLimit bytes, and if it is
// given unencoded at most kMaxGathered. Thread-safe.
//
// A small message is encoded straight into the connection's output, a larger one into a block that the output
// refers to; neither is copied afterwards.
transport::Connection::Appended AppendMessageSlowly(const MessageFrames& frames,
                                                    const google::protobuf::MessageLite& message, size_t size,
                                                    transport::Connection& connection);
ABSL_ATTRIBUTE_ALWAYS_INLINE inline transport::Connection::Appended AppendMessage(
    const MessageFrames& frames, const google::protobuf::MessageLite& message, size_t size,
    transport::Connection& connection) {
  char* out = connection.TryAppend(SizeBeforeMessage(frames) + size);
  if (out == nullptr) return AppendMessageSlowly(frames, message, size, connection);
  out = WriteBeforeMessage(frames, size, transport::kEndStream, out);
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out));
  return transport::Connection::Appended::kDone;
}
transport::Connection::Appended AppendMessage(const MessageFrames& frames, const EncodedMessage& message,
                                              transport::Connection& connection);

// The same for a small message that was encoded elsewhere: a copy is appended.
transport::Connection::Appended AppendCopySlowly(const MessageFrames& frames, absl::string_view message,
                                                 transport::Connection& connection);
ABSL_ATTRIBUTE_ALWAYS_INLINE inline transport::Connection::Appended AppendCopy(
    const MessageFrames& frames, absl::string_view message, transport::Connection& connection) {
  char* out = connection.TryAppend(SizeBeforeMessage(frames) + message.size());
  if (out == nullptr) return AppendCopySlowly(frames, message, connection);
  out = WriteBeforeMessage(frames, message.size(), transport::kEndStream, out);
  if (!message.empty()) std::memcpy(out, message.data(), message.size());
  return transport::Connection::Appended::kDone;
}

// Sends a frame that consists of a head only; its sizes are filled in here.
bool SendHead(transport::FrameHeader header, absl::string_view head, transport::Connection& connection);

// Lets the peer send `bytes` more on `stream`, or on the connection (PROTOCOL.md section 11). Thread-safe.
void SendWindow(transport::StreamId stream, size_t bytes, transport::Connection& connection);

// Asks the peer for a sign of life.
void SendPing(transport::Connection& connection);

// Answers a PING with the bytes it came with; does nothing about an answer to ours.
void AnswerPing(const transport::Frame& ping, transport::Connection& connection);

}  // namespace ferry

#endif  // FERRY_RPC_MESSAGE_FRAMES_H_
