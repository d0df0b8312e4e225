// The timeouts, heads, metadata and statuses of calls.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"

namespace ferry {
namespace {

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
