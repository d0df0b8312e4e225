#include "ferry/rpc/message_frames.h"

#include <algorithm>
#include <cstring>

#include "ferry/rpc/wire.h"

namespace ferry {
namespace {

using transport::Connection;
using transport::FrameHeader;
using transport::FrameType;
using transport::kFrameHeaderSize;

// What every receiver accepts in a frame (PROTOCOL.md section 5).
constexpr size_t kLeastMaxFrame = 81'932;

// The first part of `message`, so that it fits beside a head of `head` bytes.
absl::string_view FirstFragment(absl::string_view message, size_t head) {
  return message.substr(
      0, std::min<size_t>(kMaxFragment, kLeastMaxFrame - transport::kRequestPrefixSize - head));
}

}  // namespace

EncodedMessage Encode(const google::protobuf::MessageLite& message, size_t size, Connection& connection) {
  if (size == 0) return {};
  EncodedMessage encoded{.block = connection.AllocateOutput(size)};
  char* data = encoded.block.data();
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(data));
  encoded.bytes = absl::string_view(data, size);
  return encoded;
}

bool SendLarge(const MessageFrames& frames, const google::protobuf::MessageLite& message, size_t size,
               Connection& connection) {
  const Connection::Appended appended = AppendMessage(frames, Encode(message, size, connection), connection);
  if (appended == Connection::Appended::kFlush) connection.FlushAppended();
  return appended != Connection::Appended::kClosed;
}

uint32_t WireTimeLeft(const MessageFrames& frames) {
  return TimeoutToWire(std::max(frames.deadline - frames.clock->Now(), absl::Nanoseconds(1)));
}

Connection::Appended AppendMessageSlowly(const MessageFrames& frames,
                                         const google::protobuf::MessageLite& message, size_t size,
                                         Connection& connection) {
  return connection.Append([&](Connection::Output& output) {
    char* out = output.Append(SizeBeforeMessage(frames) + size);
    out = WriteBeforeMessage(frames, size, transport::kEndStream, out);
    message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out));
  });
}

Connection::Appended AppendMessage(const MessageFrames& frames, const EncodedMessage& message,
                                   Connection& connection) {
  return connection.Append([&](Connection::Output& output) {
    absl::string_view rest = message.bytes;
    absl::string_view fragment = FirstFragment(rest, frames.head.size());
    rest.remove_prefix(fragment.size());
    WriteBeforeMessage(frames, fragment.size(), rest.empty() ? transport::kEndStream : transport::kMore,
                       output.Append(SizeBeforeMessage(frames)));
    output.Append(message.block, fragment);
    while (!rest.empty()) {
      fragment = rest.substr(0, kMaxFragment);
      rest.remove_prefix(fragment.size());
      const FrameHeader header{.length = static_cast<uint32_t>(fragment.size()),
                               .type = FrameType::kMessage,
                               .flags = rest.empty() ? transport::kEndStream : transport::kMore,
                               .attr = transport::MakeAttr(frames.priority, 0),
                               .stream = frames.stream};
      EncodeFrameHeader(header, output.Append(kFrameHeaderSize));
      output.Append(message.block, fragment);
    }
  });
}

bool SendHead(FrameHeader header, absl::string_view head, Connection& connection) {
  header.length = static_cast<uint32_t>(head.size());
  header.head = static_cast<uint16_t>(head.size());
  return connection.Send([&](Connection::Output& output) {
    char* out = output.Append(kFrameHeaderSize + head.size());
    EncodeFrameHeader(header, out);
    if (!head.empty()) std::memcpy(out + kFrameHeaderSize, head.data(), head.size());
  });
}

void AnswerPing(const transport::Frame& ping, Connection& connection) {
  if (ping.header.has(transport::kAck)) return;
  connection.Send([&](Connection::Output& output) {
    FrameHeader header = ping.header;
    header.flags |= transport::kAck;
    char* out = output.Append(kFrameHeaderSize + ping.body.size());
    EncodeFrameHeader(header, out);
    std::memcpy(out + kFrameHeaderSize, ping.body.data(), ping.body.size());
  });
}

}  // namespace ferry
