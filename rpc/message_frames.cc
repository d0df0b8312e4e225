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

// Which mean nothing to the peer.
constexpr size_t kPingBytes = 8;

}  // namespace

EncodedMessage Encode(const google::protobuf::MessageLite& message, size_t size, Connection& connection) {
  if (size == 0) return {};
  EncodedMessage encoded{.block = connection.AllocateOutput(size)};
  char* data = encoded.block.data();
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(data));
  encoded.bytes = absl::string_view(data, size);
  return encoded;
}

EncodedMessage EncodedCopy(absl::string_view bytes, Connection& connection) {
  if (bytes.empty()) return {};
  EncodedMessage encoded{.block = connection.AllocateOutput(bytes.size())};
  std::memcpy(encoded.block.data(), bytes.data(), bytes.size());
  encoded.bytes = absl::string_view(encoded.block.data(), bytes.size());
  return encoded;
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

Connection::Appended AppendCopySlowly(const MessageFrames& frames, absl::string_view message,
                                      Connection& connection) {
  return connection.Append([&](Connection::Output& output) {
    char* out = output.Append(SizeBeforeMessage(frames) + message.size());
    out = WriteBeforeMessage(frames, message.size(), transport::kEndStream, out);
    if (!message.empty()) std::memcpy(out, message.data(), message.size());
  });
}

Connection::Appended AppendMessage(const MessageFrames& frames, const EncodedMessage& message,
                                   Connection& connection) {
  return connection.Append([&](Connection::Output& output) {
    WriteBeforeMessage(frames, message.bytes.size(), transport::kEndStream,
                       output.Append(SizeBeforeMessage(frames)));
    output.Append(message.block, message.bytes);
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

void SendWindow(transport::StreamId stream, size_t bytes, Connection& connection) {
  wire::WindowHead head;
  head.set_increment(static_cast<uint32_t>(bytes));
  SendHead({.type = FrameType::kWindow, .stream = stream}, head.SerializeAsString(), connection);
}

void SendPing(Connection& connection) {
  connection.Send([](Connection::Output& output) {
    char* const out = output.Append(kFrameHeaderSize + kPingBytes);
    transport::EncodeFrameHeader({.length = kPingBytes, .type = FrameType::kPing}, out);
    std::memset(out + kFrameHeaderSize, 0, kPingBytes);
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
