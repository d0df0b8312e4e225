#include "ferry/transport/frame.h"

#include "absl/strings/str_cat.h"

namespace ferry::transport {

std::string FrameTypeName(FrameType type) {
  switch (type) {
    case FrameType::kSettings:
      return "SETTINGS";
    case FrameType::kRequest:
      return "REQUEST";
    case FrameType::kMessage:
      return "MESSAGE";
    case FrameType::kResponse:
      return "RESPONSE";
    case FrameType::kStatus:
      return "STATUS";
    case FrameType::kCancel:
      return "CANCEL";
    case FrameType::kWindow:
      return "WINDOW";
    case FrameType::kPing:
      return "PING";
    case FrameType::kDrain:
      return "DRAIN";
  }
  return absl::StrCat("type ", static_cast<int>(type));
}

absl::Status ExplainFrameHeader(const FrameHeader& header, const FrameLimits& limits) {
  // The length comes first: it is what would make the receiver hold bytes, whatever else is wrong.
  if (header.length > limits.max_frame) {
    return absl::ResourceExhaustedError(
        absl::StrCat("frame length is ", header.length, " bytes, limit is ", limits.max_frame));
  }
  if (IsIgnorable(header.type)) return absl::OkStatus();
  if (header.type < FrameType::kSettings || header.type > FrameType::kDrain) {
    return absl::InternalError(absl::StrCat("frame type is ", static_cast<int>(header.type),
                                            ", known types are 1 to 9, and 128 and above are ignored"));
  }
  if ((header.flags & kReservedFlags) != 0) {
    return absl::InternalError(absl::StrCat("frame flags are 0x", absl::Hex(header.flags, absl::kZeroPad2),
                                            ", bits 0xe0 are reserved"));
  }
  if ((header.attr & kReservedAttr) != 0) {
    return absl::InternalError(absl::StrCat("frame attr is 0x", absl::Hex(header.attr, absl::kZeroPad2),
                                            ", bits 0xe0 are reserved"));
  }
  if (header.head > limits.max_head) {
    return absl::ResourceExhaustedError(
        absl::StrCat("frame head is ", header.head, " bytes, limit is ", limits.max_head));
  }
  if (header.prefix_size() + header.head > header.length) {
    return absl::InternalError(absl::StrCat("frame length is ", header.length, " bytes, its prefix of ",
                                            header.prefix_size(), " and head of ", header.head, " need ",
                                            header.prefix_size() + header.head));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Frame>> TakeFrame(absl::string_view* input, const FrameLimits& limits) {
  if (input->size() < kFrameHeaderSize) return std::nullopt;
  const FrameHeader header = DecodeFrameHeader(input->data());
  if (absl::Status status = ValidateFrameHeader(header, limits); !status.ok()) return status;
  if (input->size() - kFrameHeaderSize < header.length) return std::nullopt;
  const Frame frame{header, input->substr(kFrameHeaderSize, header.length)};
  input->remove_prefix(kFrameHeaderSize + header.length);
  return frame;
}

}  // namespace ferry::transport
