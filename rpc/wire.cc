#include "ferry/rpc/wire.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/little_endian.h"

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

// ---- STATUS

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// In the order of their type URLs, so that equal statuses have equal bytes.
void WriteDetails(const absl::Status& status, wire::StatusHead& head) {
  std::vector<std::pair<std::string, std::string>> details;
  status.ForEachPayload([&details](absl::string_view type_url, const absl::Cord& value) {
    details.emplace_back(std::string(type_url), std::string(value));
  });
  std::sort(details.begin(), details.end());
  for (auto& [type_url, value] : details) {
    // google.protobuf.Any's type_url must be UTF-8, or the whole head would not parse.
    if (!IsPrintable(type_url) || head.details_size() == kMaxStatusDetails) {
      head.set_truncated(true);
      continue;
    }
    google::protobuf::Any& detail = *head.add_details();
    detail.set_type_url(std::move(type_url));
    detail.set_value(std::move(value));
  }
}

// Leaves out what may not be sent.
void WriteValidMetadata(const Metadata& metadata, MetadataEntries& entries, wire::StatusHead& head) {
  if (metadata.Validate().ok()) {
    WriteMetadata(metadata, entries);
    return;
  }
  head.set_truncated(true);
  Metadata valid;
  for (const auto& [key, value] : metadata.entries()) {
    if (Metadata::ValidateKey(key).ok() && !Metadata::IsReservedKey(key)) valid.Add(key, value);
  }
  WriteMetadata(valid, entries);
}

// Cuts off the message's end so that `head` loses at least `excess` bytes, at a boundary of UTF-8 if the
// message is such. Returns false if the message is shorter than that.
bool TruncateMessage(size_t excess, wire::StatusHead& head) {
  std::string& message = *head.mutable_message();
  if (message.size() < excess) return false;
  size_t keep = message.size() - excess;
  for (int i = 0; i < 3 && keep > 0 && (message[keep] & 0xc0) == 0x80; ++i) --keep;
  message.resize(keep);
  return true;
}

void FitStatusHead(size_t max_head, wire::StatusHead& head) {
  if (head.ByteSizeLong() <= max_head) return;
  head.set_truncated(true);
  head.clear_details();
  size_t size = head.ByteSizeLong();
  if (size <= max_head || TruncateMessage(size - max_head, head)) return;
  head.clear_initial_metadata();
  head.clear_trailing_metadata();
  size = head.ByteSizeLong();
  if (size > max_head) TruncateMessage(size - max_head, head);
}

// The status of a code on the wire.
absl::Status StatusFromWire(int code, absl::string_view message) {
  if (code == 0) {
    return absl::InternalError(absl::StrCat("peer sent a STATUS frame with code 0, OK: ", message));
  }
  if (code < 0 || code > static_cast<int>(absl::StatusCode::kUnauthenticated)) {
    return absl::UnknownError(absl::StrCat("status code is ", code, ", known codes are 1 to 16: ", message));
  }
  return absl::Status(static_cast<absl::StatusCode>(code), message);
}

template <typename Head>
absl::StatusOr<std::string> SerializeHead(const Head& head, absl::string_view what, size_t max_head) {
  const size_t size = head.ByteSizeLong();
  if (size > max_head) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " with its metadata is ", size, " bytes, limit is ", max_head));
  }
  return head.SerializeAsString();
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

uint32_t TimeoutToWire(absl::Duration left) {
  if (left == absl::InfiniteDuration()) return 0;
  constexpr int64_t kMax = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(std::clamp<int64_t>(absl::ToInt64Microseconds(left), 1, kMax));
}

absl::Duration TimeoutFromWire(uint32_t timeout_us) {
  if (timeout_us == 0 || timeout_us == std::numeric_limits<uint32_t>::max()) return absl::InfiniteDuration();
  return absl::Microseconds(timeout_us);
}

absl::Status ParseHead(absl::string_view bytes, absl::string_view what, google::protobuf::MessageLite& head) {
  if (head.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, " of ", bytes.size(), " bytes does not parse"));
}

void WriteMetadata(const Metadata& metadata, MetadataEntries& entries) {
  for (const auto& [key, value] : metadata.entries()) {
    wire::MetadataEntry& entry = *entries.Add();
    entry.set_key(key);
    entry.set_value(value);
  }
}

absl::Status ReadMetadata(const MetadataEntries& entries, Metadata& metadata) {
  for (const wire::MetadataEntry& entry : entries) {
    if (absl::Status status = Metadata::ValidateKey(entry.key()); !status.ok()) return status;
    if (!Metadata::IsReservedKey(entry.key())) metadata.Add(entry.key(), entry.value());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> EncodeRequestHead(const Metadata& metadata, uint64_t message_length,
                                              size_t max_head) {
  if (absl::Status status = metadata.Validate(); !status.ok()) return status;
  wire::RequestHead head;
  head.set_message_length(message_length);
  WriteMetadata(metadata, *head.mutable_metadata());
  return SerializeHead(head, "request head", max_head);
}

std::string HeadOfAttempt(absl::string_view bytes, int attempt, uint64_t message_length) {
  wire::RequestHead head;
  head.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  head.set_message_length(message_length);
  head.set_attempt(attempt > 1 ? static_cast<uint32_t>(std::min(attempt, kMaxAttempt)) : 0);
  if (head.ByteSizeLong() > WireSettings().max_head) head.clear_attempt();
  return head.SerializeAsString();
}

int AttemptOf(absl::string_view bytes) {
  wire::RequestHead head;
  head.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  return std::max(1, static_cast<int>(head.attempt()));
}

absl::StatusOr<int> ReadAttempt(const wire::RequestHead& head) {
  if (head.attempt() <= kMaxAttempt) return std::max(1, static_cast<int>(head.attempt()));
  return absl::InternalError(absl::StrCat("attempt is ", head.attempt(), ", limit is ", kMaxAttempt));
}

absl::StatusOr<std::string> EncodeResponseHead(const Metadata& initial, const Metadata& trailing,
                                               uint64_t message_length, size_t max_head) {
  if (absl::Status status = initial.Validate(); !status.ok()) return status;
  if (absl::Status status = trailing.Validate(); !status.ok()) return status;
  wire::ResponseHead head;
  head.set_message_length(message_length);
  WriteMetadata(initial, *head.mutable_initial_metadata());
  WriteMetadata(trailing, *head.mutable_trailing_metadata());
  return SerializeHead(head, "response head", max_head);
}

absl::StatusOr<std::string> EncodeMessageHead(const Metadata& initial, size_t max_head) {
  if (absl::Status status = initial.Validate(); !status.ok()) return status;
  wire::MessageHead head;
  WriteMetadata(initial, *head.mutable_initial_metadata());
  return SerializeHead(head, "message head", max_head);
}

absl::StatusOr<uint32_t> DecodeWindowHead(absl::string_view bytes) {
  wire::WindowHead head;
  if (absl::Status parsed = ParseHead(bytes, "window head", head); !parsed.ok()) return parsed;
  if (head.increment() == 0) return absl::InternalError("WINDOW frame has an increment of 0");
  return head.increment();
}

std::string EncodeStatusHead(const WireStatus& status, size_t max_head) {
  wire::StatusHead head;
  head.set_code(static_cast<int>(status.status.code()));
  const absl::string_view message = status.status.message();
  head.set_message(message.data(), message.size());
  head.set_not_executed(status.not_executed);
  if (status.retry_after.has_value()) {
    const int64_t ms = absl::ToInt64Milliseconds(*status.retry_after);
    head.set_retry_after_ms(
        static_cast<uint32_t>(std::clamp<int64_t>(ms, 0, std::numeric_limits<uint32_t>::max())));
  }
  WriteDetails(status.status, head);
  WriteValidMetadata(status.initial_metadata, *head.mutable_initial_metadata(), head);
  WriteValidMetadata(status.trailing_metadata, *head.mutable_trailing_metadata(), head);
  FitStatusHead(max_head, head);
  return head.SerializeAsString();
}

absl::StatusOr<WireStatus> DecodeStatusHead(absl::string_view bytes) {
  wire::StatusHead head;
  if (absl::Status status = ParseHead(bytes, "status head", head); !status.ok()) return status;
  WireStatus result{.status = StatusFromWire(head.code(), head.message()),
                    .not_executed = head.not_executed(),
                    .truncated = head.truncated()};
  if (head.has_retry_after_ms()) result.retry_after = absl::Milliseconds(head.retry_after_ms());
  for (int i = 0; i < head.details_size(); ++i) {
    if (i == kMaxStatusDetails) {
      result.truncated = true;
      break;
    }
    result.status.SetPayload(head.details(i).type_url(), absl::Cord(head.details(i).value()));
  }
  absl::Status metadata = ReadMetadata(head.initial_metadata(), result.initial_metadata);
  metadata.Update(ReadMetadata(head.trailing_metadata(), result.trailing_metadata));
  if (!metadata.ok()) return absl::InternalError(absl::StrCat("in a status head, ", metadata.message()));
  return result;
}

}  // namespace ferry
