// A message on its way out, as one frame or several.
#ifndef FERRY_RPC_MESSAGE_FRAMES_H_
#define FERRY_RPC_MESSAGE_FRAMES_H_

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/frame.h"

namespace ferry {

// Below this, encoding under the output mutex costs less than referring to a block.
inline constexpr size_t kMaxGathered = 4 * 1024;

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

// Sends `message`, of size `size` = message.ByteSizeLong() just called, as the last of its sender on the
// stream. Returns false if the connection is closed. Thread-safe.
//
// A small message is encoded straight into the connection's output, a larger one into a block that the output
// refers to; neither is copied afterwards.
bool SendMessage(const MessageFrames& frames, const google::protobuf::MessageLite& message, size_t size,
                 transport::Connection& connection);

// The same in two steps, of which the second is Connection::FlushAppended; see there. Only a message of at
// most kMaxGathered bytes may be given unencoded.
transport::Connection::Appended AppendMessage(const MessageFrames& frames,
                                              const google::protobuf::MessageLite& message, size_t size,
                                              transport::Connection& connection);
transport::Connection::Appended AppendMessage(const MessageFrames& frames, const EncodedMessage& message,
                                              transport::Connection& connection);

// Sends a frame that consists of a head only; its sizes are filled in here.
bool SendHead(transport::FrameHeader header, absl::string_view head, transport::Connection& connection);

// Answers a PING with the bytes it came with; does nothing about an answer to ours.
void AnswerPing(const transport::Frame& ping, transport::Connection& connection);

}  // namespace ferry

#endif  // FERRY_RPC_MESSAGE_FRAMES_H_
