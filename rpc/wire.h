// What frames mean to calls: prefixes, heads and settings between their form on the wire and ours.
//
// Everything here is a pure function. What a connection does with the outcome, the sessions say.
#ifndef FERRY_RPC_WIRE_H_
#define FERRY_RPC_WIRE_H_

#include <google/protobuf/repeated_field.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/little_endian.h"

namespace ferry {

// ---- Frames (PROTOCOL.md section 4)

enum class Side : uint8_t { kClient, kServer };

// Whether a valid header is that of a request, or of a response, which comes in one frame: CheckFrameUse
// finds nothing wrong with it then if its sender is a client, or a server.
constexpr bool IsWholeMessage(const transport::FrameHeader& header, transport::FrameType type) {
  const bool uncompressed = header.codec() == 0;
  const bool of_call = header.stream.slot() != 0;
  return (header.type == type) & (header.flags == transport::kEndStream) & uncompressed & of_call;
}
constexpr bool IsPlainRequest(const transport::FrameHeader& header) {
  return IsWholeMessage(header, transport::FrameType::kRequest);
}
constexpr bool IsPlainResponse(const transport::FrameHeader& header) {
  return IsWholeMessage(header, transport::FrameType::kResponse);
}

// The priority that the answers to a request have ([P3.7]).
constexpr uint8_t AnswerPriority(const transport::FrameHeader& request) {
  return request.priority() == 3 ? 0 : request.priority();
}

// INTERNAL if `sender` may not send a frame with this header in this version, whatever the connection's
// state: the wrong side, the wrong stream, flags that do not go with the type, bytes where there must be
// none, a feature that the receiver has not announced (`features`, as in WireSettings). The connection cannot
// go on then. REQUIRES: the header is valid (ValidateFrameHeader) and its type is not ignorable.
absl::Status CheckFrameUse(const transport::FrameHeader& header, Side sender, uint64_t features = 0);

// The most message bytes that a sender puts into one frame.
inline constexpr uint32_t kMaxFragment = 64 * 1024;

// ---- SETTINGS (section 5)

// Features that both sides must have announced before they are used, as bits of WireSettings::features.
inline constexpr uint64_t kFlowControlFeature = 1u << 0;
inline constexpr uint64_t kStreamingFeature = 1u << 1;
inline constexpr uint64_t kCompressionFeature = 1u << 2;
inline constexpr uint64_t kAttachmentsFeature = 1u << 3;

// WireSettings are what one side accepts: a value. The defaults hold until the peer's SETTINGS have arrived.
struct WireSettings {
  // In bytes: a frame's length, a frame's head, a message.
  uint32_t max_frame = 256 * 1024;
  uint32_t max_head = 16 * 1024;
  uint64_t max_message = 64 * 1024 * 1024;
  // Slots 1 to max_streams - 1 are for calls.
  uint32_t max_streams = 4096;
  // In bytes.
  uint32_t initial_stream_window = 1024 * 1024;
  uint32_t initial_connection_window = 16 * 1024 * 1024;
  uint64_t features = 0;
  // Bit n: codec n is understood.
  uint32_t codecs = 0;

  transport::FrameLimits frame_limits() const { return {.max_frame = max_frame, .max_head = max_head}; }

  friend bool operator==(const WireSettings&, const WireSettings&) = default;
};

// INVALID_ARGUMENT, with the value and the limit, if a setting is outside what may be announced. For our own
// options; DecodeSettings checks a peer's.
absl::Status ValidateSettings(const WireSettings& settings);

// The head of a SETTINGS frame. REQUIRES: ValidateSettings is OK.
std::string EncodeSettings(const WireSettings& settings);

// INTERNAL if the head does not parse or a value is outside what may be announced.
absl::StatusOr<WireSettings> DecodeSettings(absl::string_view head);

// ---- REQUEST prefix (section 6)

// A RequestPrefix stands between the header and the head of every REQUEST: a value.
struct RequestPrefix {
  // MethodId() of the method.
  uint64_t method = 0;
  // TimeoutToWire() of the time left.
  uint32_t timeout_us = 0;

  friend bool operator==(const RequestPrefix&, const RequestPrefix&) = default;
};

// Writes transport::kRequestPrefixSize bytes.
inline void EncodeRequestPrefix(const RequestPrefix& prefix, char* out) {
  transport::StoreLittleEndian(prefix.method, out);
  transport::StoreLittleEndian(prefix.timeout_us, out + sizeof(prefix.method));
}

// Reads transport::kRequestPrefixSize bytes.
inline RequestPrefix DecodeRequestPrefix(const char* in) {
  return {.method = transport::LoadLittleEndian<uint64_t>(in),
          .timeout_us = transport::LoadLittleEndian<uint32_t>(in + sizeof(uint64_t))};
}

// `left` in whole microseconds, rounded down, but at least 1 so that it cannot be taken for "no limit". An
// infinite duration gives 0; one that does not fit gives 0xffffffff. A call with nothing left is not to be
// sent at all.
uint32_t TimeoutToWire(absl::Duration left);

// Infinite if the client set no limit, or one that did not fit.
absl::Duration TimeoutFromWire(uint32_t timeout_us);

// ---- Heads (section 5)

// Parses `bytes` into `head`; INTERNAL, naming `what` and the size, if they do not parse. `what` is "request
// head" and the like.
absl::Status ParseHead(absl::string_view bytes, absl::string_view what, google::protobuf::MessageLite& head);

// ---- Metadata (section 8)

using MetadataEntries = google::protobuf::RepeatedPtrField<wire::MetadataEntry>;

// Appends `metadata` to `entries`. REQUIRES: metadata.Validate() is OK.
void WriteMetadata(const Metadata& metadata, MetadataEntries& entries);

// Appends to `metadata` what a peer's `entries` hold; entries whose key is reserved are skipped.
// INVALID_ARGUMENT, with the key, if one is not well-formed.
absl::Status ReadMetadata(const MetadataEntries& entries, Metadata& metadata);

// The head of a REQUEST, empty if there is nothing to say: `message_length` is 0 unless the message is sent
// in fragments. INVALID_ARGUMENT if a key is not well-formed; RESOURCE_EXHAUSTED, with the size and the
// limit, if the head is more than `max_head` bytes.
absl::StatusOr<std::string> EncodeRequestHead(const Metadata& metadata, uint64_t message_length,
                                              size_t max_head);

// The greatest number that an attempt at a call has; further ones have it too (PROTOCOL.md [P6.11]).
inline constexpr int kMaxAttempt = 1000;

// `head`, of a REQUEST's earlier attempt or empty, as that of another attempt, from 1. `message_length` is as
// above. The number is left out where the head would be longer with it than every server accepts.
std::string HeadOfAttempt(absl::string_view head, int attempt, uint64_t message_length);

// Which attempt a head of our own is of.
int AttemptOf(absl::string_view head);

// The same of a peer's: INTERNAL, with the value and the limit, if it is out of bounds.
absl::StatusOr<int> ReadAttempt(const wire::RequestHead& head);

// The head of a RESPONSE, in the same way.
absl::StatusOr<std::string> EncodeResponseHead(const Metadata& initial, const Metadata& trailing,
                                               uint64_t message_length, size_t max_head);

// The head of a MESSAGE that begins a server's messages: empty if there is nothing to say.
absl::StatusOr<std::string> EncodeMessageHead(const Metadata& initial, size_t max_head);

// ---- WINDOW (section 11)

// Whether a frame with this header takes from the windows of its stream and its connection.
constexpr bool IsCounted(const transport::FrameHeader& header) {
  if (header.type == transport::FrameType::kMessage) {
    return header.message_size() > 0 || !header.has(transport::kEndStream);
  }
  const bool carries =
      header.type == transport::FrameType::kRequest || header.type == transport::FrameType::kResponse;
  return carries && header.has(transport::kMore);
}
// How much it takes, in bytes.
constexpr size_t WindowCost(const transport::FrameHeader& header) {
  return header.message_size() + transport::kFrameHeaderSize;
}

// The head of a WINDOW frame: its increment. INTERNAL if it does not parse or is 0.
absl::StatusOr<uint32_t> DecodeWindowHead(absl::string_view head);

// ---- STATUS (section 7)

// A WireStatus is what a STATUS frame says of a call's end, or of the connection's: a value.
struct WireStatus {
  // Not OK. The payloads travel as details.
  absl::Status status = absl::UnknownError("");
  Metadata initial_metadata = {};
  Metadata trailing_metadata = {};
  // The call was refused before its handler saw anything of it.
  bool not_executed = false;
  // How long the client should wait before it tries again.
  std::optional<absl::Duration> retry_after = std::nullopt;
  // From a peer: something did not fit and was left out.
  bool truncated = false;
};

// The smallest limit that a STATUS head can be cut to.
inline constexpr size_t kMinStatusHead = 64;

// The most details that a STATUS carries; those beyond are left out by either side.
inline constexpr int kMaxStatusDetails = 64;

// The head of a STATUS, at most `max_head` bytes: what does not fit is left out, details first, then the
// message's end, then metadata, never the code; the head then says so. Payloads whose type URL is not
// printable ASCII, and metadata that is not well-formed, are left out too. REQUIRES: status.status is not OK,
// max_head >= kMinStatusHead.
std::string EncodeStatusHead(const WireStatus& status, size_t max_head);

// INTERNAL if the head does not parse. A code of OK becomes INTERNAL and an unknown one UNKNOWN, as the
// status's own code, with the number in its text.
absl::StatusOr<WireStatus> DecodeStatusHead(absl::string_view head);

}  // namespace ferry

#endif  // FERRY_RPC_WIRE_H_
