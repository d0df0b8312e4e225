#include "tests/conformance/payload.h"

#include <string>

#include "absl/strings/cord.h"
#include "ferry/transport/check.h"

namespace ferry::test::conformance {
namespace {

constexpr size_t kLongest = 1'000'000;
// Patterns of different sizes begin at different places.
constexpr size_t kPlaces = 251;

std::string MakeBytes() {
  std::string bytes(kLongest + kPlaces, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1'664'525 + 1'013'904'223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

}  // namespace

absl::string_view PatternOf(size_t size) {
  FERRY_CHECK(size <= kLongest, "a payload is too long");
  static const std::string& bytes = *new std::string(MakeBytes());
  return absl::string_view(bytes).substr(size % kPlaces, size);
}

Request RequestOf(size_t size, const std::vector<uint32_t>& reply_sizes) {
  Request request;
  request.set_payload(std::string(PatternOf(size)));
  request.mutable_reply_sizes()->Add(reply_sizes.begin(), reply_sizes.end());
  return request;
}

Reply ReplyOf(size_t size) {
  Reply reply;
  reply.set_payload(std::string(PatternOf(size)));
  return reply;
}

Request EndingWith(const absl::Status& status) {
  Request request;
  request.set_end(true);
  request.set_code(static_cast<int>(status.code()));
  request.set_text(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& value) {
    (*request.mutable_details())[std::string(type_url)] = std::string(value);
  });
  return request;
}

absl::Status StatusOf(const Request& request) {
  absl::Status status(static_cast<absl::StatusCode>(request.code()), request.text());
  for (const auto& [type_url, value] : request.details()) status.SetPayload(type_url, absl::Cord(value));
  return status;
}

}  // namespace ferry::test::conformance
