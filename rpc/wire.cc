#include "ferry/rpc/wire.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

namespace ferry {
namespace {

using ::ferry::transport::FrameHeader;
using ::ferry::transport::FrameType;
using ::ferry::transport::FrameTypeName;
using ::ferry::transport::kAck;
using ::ferry::transport::kAttachment;
using ::ferry::transport::kCompressed;
using ::ferry::transport::kConnectionStream;
using ::ferry::transport::kEndStream;
using ::ferry::transport::kMore;

// ---- Frames

constexpr uint8_t kMessageFlags = kEndStream | kMore | kCompressed | kAttachment;
constexpr uint32_t kPingSize = 8;

// Where a type of frame may be used, and by whom: the table of PROTOCOL.md section 4.
struct FrameUse {
  bool on_connection = false;
  bool on_call = false;
  bool from_client = true;
  bool from_server = true;
  uint8_t flags = 0;
  uint8_t needs_one_of = 0;
  uint16_t max_head = std::numeric_limits<uint16_t>::max();
  uint32_t min_message = 0;
  uint32_t max_message = 0;
};

constexpr FrameUse kFrameUses[] = {
    /* none     */ {},
    /* SETTINGS */ {.on_connection = true},
    /* REQUEST  */
    {.on_call = true,
     .from_server = false,
     .flags = kMessageFlags,
     .max_message = transport::kMaxFrameLength},
    /* MESSAGE  */ {.on_call = true, .flags = kMessageFlags, .max_message = transport::kMaxFrameLength},
    /* RESPONSE */
    {.on_call = true,
     .from_client = false,
     .flags = kMessageFlags,
     .needs_one_of = kEndStream | kMore,
     .max_message = transport::kMaxFrameLength},
    /* STATUS   */ {.on_connection = true, .on_call = true, .flags = kEndStream, .needs_one_of = kEndStream},
    /* CANCEL   */ {.on_call = true, .from_server = false, .max_head = 0},
    /* WINDOW   */ {.on_connection = true, .on_call = true},
    /* PING     */
    {.on_connection = true, .flags = kAck, .max_head = 0, .min_message = kPingSize, .max_message = kPingSize},
    /* DRAIN    */ {.on_connection = true},
};

absl::Status Misuse(const FrameHeader& header, absl::string_view what) {
  return absl::InternalError(absl::StrCat(FrameTypeName(header.type), " frame ", what));
}

absl::Status CheckStream(const FrameHeader& header, const FrameUse& use, Side sender) {
  const bool on_connection = header.stream == kConnectionStream;
  if (header.stream.slot() == 0 && !on_connection) {
    return Misuse(header, absl::StrCat("is on slot 0 with generation ", header.stream.generation(),
                                       ", slot 0 is the connection's and has generation 0 only"));
  }
  if (!(on_connection ? use.on_connection : use.on_call)) {
    return Misuse(header, on_connection ? "is on stream 0, it must be on a call's"
                                        : absl::StrCat("is on slot ", header.stream.slot(),
                                                       ", it must be on stream 0"));
  }
  if (sender == Side::kServer && !use.from_server)
    return Misuse(header, "is from a server, only clients send it");
  const bool ends_call = header.type == FrameType::kStatus && !on_connection;
  if (sender == Side::kClient && (!use.from_client || ends_call)) {
    return Misuse(header, "on a call is from a client, only servers send it");
  }
  return absl::OkStatus();
}

absl::Status CheckFeatures(const FrameHeader& header, uint64_t features) {
  if (header.has(kCompressed) && (features & kCompressionFeature) == 0) {
    return Misuse(header, "has COMPRESSED, a feature that was not announced");
  }
  if (header.has(kAttachment) && (features & kAttachmentsFeature) == 0) {
    return Misuse(header, "has ATTACHMENT, a feature that was not announced");
  }
  return absl::OkStatus();
}

absl::Status CheckFlags(const FrameHeader& header, const FrameUse& use) {
  const uint8_t excess = header.flags & ~use.flags;
  if (excess != 0) {
    return Misuse(header, absl::StrCat("has flags 0x", absl::Hex(header.flags, absl::kZeroPad2),
                                       ", it may have only 0x", absl::Hex(use.flags, absl::kZeroPad2)));
  }
  if (header.has(kEndStream) && header.has(kMore)) return Misuse(header, "has both END_STREAM and MORE");
  if (use.needs_one_of != 0 && !header.has(use.needs_one_of)) {
    return Misuse(header, use.flags == kEndStream ? "lacks END_STREAM" : "has neither END_STREAM nor MORE");
  }
  if (header.has(kCompressed) != (header.codec() != 0)) {
    return Misuse(header, absl::StrCat("has codec ", header.codec(),
                                       header.has(kCompressed) ? " with COMPRESSED" : " without COMPRESSED"));
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const FrameHeader& header, const FrameUse& use) {
  if (header.head > use.max_head) {
    return Misuse(header, absl::StrCat("has a head of ", header.head, " bytes, it must have none"));
  }
  const uint32_t size = header.message_size();
  if (size < use.min_message || size > use.max_message) {
    return Misuse(header,
                  absl::StrCat("has ", size, " bytes after its head, it must have ", use.max_message));
  }
  if (header.has(kMore) && size == 0) return Misuse(header, "has MORE and no message bytes");
  const bool opens_stream = header.type == FrameType::kRequest && !header.has(kEndStream | kMore);
  if (opens_stream && size != 0) {
    return Misuse(header,
                  absl::StrCat("has ", size, " message bytes, without END_STREAM or MORE it must have none"));
  }
  return absl::OkStatus();
}

// ---- SETTINGS

absl::Status CheckBounds(absl::string_view name, uint64_t value, uint64_t min, uint64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", it must be ", min, " to ", max));
}

// proto3's own way of saying "absent".
template <typename T>
void SetUnlessZero(T value, T& setting) {
  if (value != 0) setting = value;
}

}  // namespace

absl::Status CheckFrameUse(const FrameHeader& header, Side sender, uint64_t features) {
  const FrameUse& use = kFrameUses[static_cast<uint8_t>(header.type)];
  if (absl::Status status = CheckStream(header, use, sender); !status.ok()) return status;
  if (absl::Status status = CheckFlags(header, use); !status.ok()) return status;
  if (absl::Status status = CheckFeatures(header, features); !status.ok()) return status;
  return CheckSizes(header, use);
}

absl::Status ValidateSettings(const WireSettings& settings) {
  // So that whatever a peer sends under the default settings is acceptable: a frame with a prefix, the
  // greatest default head and the greatest fragment.
  constexpr WireSettings kDefaults;
  constexpr uint32_t kMinMaxFrame = transport::kRequestPrefixSize + kDefaults.max_head + kMaxFragment;
  constexpr uint32_t kMaxInt = std::numeric_limits<int32_t>::max();
  const absl::Status checks[] = {
      CheckBounds("max_frame", settings.max_frame, kMinMaxFrame, transport::kMaxFrameLength),
      CheckBounds("max_head", settings.max_head, kDefaults.max_head, std::numeric_limits<uint16_t>::max()),
      CheckBounds("max_message", settings.max_message, kMaxFragment, kMaxInt),
      CheckBounds("max_streams", settings.max_streams, 2, transport::StreamId::kSlots),
      CheckBounds("initial_stream_window", settings.initial_stream_window, kMaxFragment, kMaxInt),
      CheckBounds("initial_connection_window", settings.initial_connection_window, kMaxFragment, kMaxInt),
  };
  for (const absl::Status& check : checks) {
    if (!check.ok()) return check;
  }
  return absl::OkStatus();
}

std::string EncodeSettings(const WireSettings& settings) {
  wire::Settings head;
  head.set_max_frame(settings.max_frame);
  head.set_max_head(settings.max_head);
  head.set_max_message(settings.max_message);
  head.set_max_streams(settings.max_streams);
  head.set_initial_stream_window(settings.initial_stream_window);
  head.set_initial_connection_window(settings.initial_connection_window);
  head.set_features(settings.features);
  head.set_codecs(settings.codecs);
  return head.SerializeAsString();
}

absl::StatusOr<WireSettings> DecodeSettings(absl::string_view bytes) {
  wire::Settings head;
  if (absl::Status status = ParseHead(bytes, "settings head", head); !status.ok()) return status;
  WireSettings settings;
  SetUnlessZero(head.max_frame(), settings.max_frame);
  SetUnlessZero(head.max_head(), settings.max_head);
  SetUnlessZero(head.max_message(), settings.max_message);
  SetUnlessZero(head.max_streams(), settings.max_streams);
  SetUnlessZero(head.initial_stream_window(), settings.initial_stream_window);
  SetUnlessZero(head.initial_connection_window(), settings.initial_connection_window);
  settings.features = head.features();
  settings.codecs = head.codecs();
  if (absl::Status status = ValidateSettings(settings); !status.ok()) {
    return absl::InternalError(absl::StrCat("peer's setting ", status.message()));
  }
  return settings;
}

}  // namespace ferry
