// Frames: the units in which a connection carries bytes (PROTOCOL.md sections 3 and 4).
#ifndef FERRY_TRANSPORT_FRAME_H_
#define FERRY_TRANSPORT_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/little_endian.h"

namespace ferry::transport {

//  0         3      4       5       6        8                12
//  +---------+------+-------+-------+--------+----------------+---------------------------
//  | length  | type | flags | attr  | head   | stream         | [prefix] head message ...
//  |  u24    | u8   | u8    | u8    | u16    | gen:12 slot:20 |     `length` bytes
//  +---------+------+-------+-------+--------+----------------+---------------------------
inline constexpr size_t kFrameHeaderSize = 12;

// Stands before the head of a REQUEST, and of no other frame.
inline constexpr size_t kRequestPrefixSize = 12;

// The greatest length that a header can say.
inline constexpr uint32_t kMaxFrameLength = (1u << 24) - 1;

// What the frame is for, which only the layer above knows. A header that was received may hold any value.
enum class FrameType : uint8_t {
  kSettings = 1,
  kRequest = 2,
  kMessage = 3,
  kResponse = 4,
  kStatus = 5,
  kCancel = 6,
  kWindow = 7,
  kPing = 8,
  kDrain = 9,
};

// Frames of types that a later version may add and a receiver of this one must skip.
constexpr bool IsIgnorable(FrameType type) { return static_cast<uint8_t>(type) >= 0x80; }

// "REQUEST", or "type 77".
std::string FrameTypeName(FrameType type);

// Bits of FrameHeader::flags.
inline constexpr uint8_t kEndStream = 0x01;
inline constexpr uint8_t kMore = 0x02;
inline constexpr uint8_t kCompressed = 0x04;
inline constexpr uint8_t kAttachment = 0x08;
inline constexpr uint8_t kAck = 0x10;
inline constexpr uint8_t kReservedFlags = 0xe0;

// Bits of FrameHeader::attr: reserved:3 codec:3 priority:2.
inline constexpr uint8_t kReservedAttr = 0xe0;
constexpr uint8_t MakeAttr(uint8_t priority, uint8_t codec) {
  return static_cast<uint8_t>((priority & 0x03) | (codec & 0x07) << 2);
}

// A StreamId names one use of one slot of a connection's table of streams: a value. 0 is the connection
// itself.
class StreamId {
 public:
  static constexpr uint32_t kSlots = 1u << 20;
  static constexpr uint32_t kGenerations = 1u << 12;

  constexpr StreamId() = default;
  constexpr explicit StreamId(uint32_t value) : value_(value) {}
  // REQUIRES: slot < kSlots, generation < kGenerations.
  static constexpr StreamId Make(uint32_t slot, uint32_t generation) {
    return StreamId(generation << kSlotBits | slot);
  }

  constexpr uint32_t value() const { return value_; }
  constexpr uint32_t slot() const { return value_ & (kSlots - 1); }
  constexpr uint32_t generation() const { return value_ >> kSlotBits; }
  // The next use of the same slot. After the last generation comes the first.
  constexpr StreamId Next() const { return StreamId(value_ + kSlots); }

  friend constexpr bool operator==(StreamId, StreamId) = default;

 private:
  static constexpr int kSlotBits = 20;
  uint32_t value_ = 0;
};

// The connection's own stream.
inline constexpr StreamId kConnectionStream{};

// A FrameHeader is the first 12 bytes of a frame: a value.
struct FrameHeader {
  // Bytes after the header: prefix, head and message.
  uint32_t length = 0;
  FrameType type{};
  uint8_t flags = 0;
  uint8_t attr = 0;
  // Bytes of the head.
  uint16_t head = 0;
  StreamId stream = {};

  constexpr bool has(uint8_t flag) const { return (flags & flag) != 0; }
  constexpr uint8_t priority() const { return attr & 0x03; }
  constexpr uint8_t codec() const { return attr >> 2 & 0x07; }
  constexpr uint32_t prefix_size() const { return type == FrameType::kRequest ? kRequestPrefixSize : 0; }
  // REQUIRES: the header is valid, and so for every size below.
  constexpr uint32_t message_size() const { return length - prefix_size() - head; }

  friend constexpr bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

// Writes kFrameHeaderSize bytes. REQUIRES: length <= kMaxFrameLength.
inline void EncodeFrameHeader(const FrameHeader& header, char* out) {
  StoreLittleEndian<uint64_t>(uint64_t{header.length} | uint64_t{static_cast<uint8_t>(header.type)} << 24 |
                                  uint64_t{header.flags} << 32 | uint64_t{header.attr} << 40 |
                                  uint64_t{header.head} << 48,
                              out);
  StoreLittleEndian<uint32_t>(header.stream.value(), out + 8);
}

// Reads kFrameHeaderSize bytes. Any bytes make a header; whether it is a good one, ValidateFrameHeader says.
inline FrameHeader DecodeFrameHeader(const char* in) {
  const uint32_t length_and_type = LoadLittleEndian<uint32_t>(in);
  return FrameHeader{
      .length = length_and_type & kMaxFrameLength,
      .type = static_cast<FrameType>(length_and_type >> 24),
      .flags = static_cast<uint8_t>(in[4]),
      .attr = static_cast<uint8_t>(in[5]),
      .head = LoadLittleEndian<uint16_t>(in + 6),
      .stream = StreamId(LoadLittleEndian<uint32_t>(in + 8)),
  };
}

// What a receiver accepts, in bytes.
struct FrameLimits {
  uint32_t max_frame = 256 * 1024;
  uint32_t max_head = 16 * 1024;
};

// Whether a header is valid, and its type known; false says nothing of a type that is ignorable.
inline bool IsValidFrameHeader(const FrameHeader& header, const FrameLimits& limits) {
  const bool known = static_cast<uint8_t>(header.type) - 1u <= static_cast<uint8_t>(FrameType::kDrain) - 1u;
  const bool fits = (header.length <= limits.max_frame) & (header.head <= limits.max_head) &
                    (header.prefix_size() + header.head <= header.length);
  const bool plain = ((header.flags & kReservedFlags) | (header.attr & kReservedAttr)) == 0;
  return known & fits & plain;
}

// The error in a header that ValidateFrameHeader has found wanting, or OK if its type is ignorable and its
// length within the limit.
absl::Status ExplainFrameHeader(const FrameHeader& header, const FrameLimits& limits);

// An error if no frame of this version can have this header; the connection cannot go on then.
// RESOURCE_EXHAUSTED with the value and the limit if the frame or its head is too long, INTERNAL if the
// header is malformed. Of an ignorable type only the length is checked.
inline absl::Status ValidateFrameHeader(const FrameHeader& header, const FrameLimits& limits) {
  if (ABSL_PREDICT_TRUE(IsValidFrameHeader(header, limits))) return absl::OkStatus();
  return ExplainFrameHeader(header, limits);
}

// A Frame is a whole frame, in memory that it does not own.
struct Frame {
  FrameHeader header;
  // header.length bytes.
  absl::string_view body;

  // REQUIRES: the type is not ignorable, since of those the header is not checked.
  absl::string_view prefix() const { return body.substr(0, header.prefix_size()); }
  absl::string_view head() const { return body.substr(header.prefix_size(), header.head); }
  absl::string_view message() const { return body.substr(header.prefix_size() + header.head); }
};

// Takes one frame off the front of `*input`. The frame's bytes are `*input`'s.
//
// Returns nullopt, and leaves `*input` alone, if the frame is incomplete. Returns ValidateFrameHeader's error
// as soon as the header is there, so that nothing is kept of a frame that is too long; the caller must then
// end the connection.
absl::StatusOr<std::optional<Frame>> TakeFrame(absl::string_view* input, const FrameLimits& limits);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_FRAME_H_
