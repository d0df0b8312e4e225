#include "ferry/rpc/metadata.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry {
namespace {

constexpr size_t kMaxKeyLength = 128;

bool IsKeyCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

}  // namespace

const std::string* Metadata::Find(std::string_view key) const {
  for (const Entry& entry : entries_) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

absl::Status Metadata::Validate() const {
  for (const auto& [key, value] : entries_) {
    if (absl::Status status = ValidateKey(key); !status.ok()) return status;
    if (IsReservedKey(key)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metadata key \"", key, "\" begins with \"ferry-\", which is reserved"));
    }
  }
  return absl::OkStatus();
}

absl::Status Metadata::ValidateKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyLength) {
    return absl::InvalidArgumentError(
        absl::StrCat("metadata key is ", key.size(), " bytes, it must be 1 to ", kMaxKeyLength));
  }
  if (!std::all_of(key.begin(), key.end(), IsKeyCharacter)) {
    return absl::InvalidArgumentError(
        absl::StrCat("metadata key \"", absl::CHexEscape(absl::string_view(key.data(), key.size())),
                     "\" has a character outside a-z 0-9 - _ ."));
  }
  return absl::OkStatus();
}

}  // namespace ferry
