#include "ferry/rpc/message_assembly.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace ferry {

absl::Status MessageAssembly::Begin(uint64_t total, uint64_t max_message, Budget& budget) {
  if (total > max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", total, " bytes, limit is ", max_message));
  }
  if (!budget.Take(total)) return budget.Exhausted(total);
  budget_ = &budget;
  // Not initialised: pages that the peer never fills cost nothing.
  bytes_.reset(new char[total]);
  have_ = 0;
  total_ = total;
  return absl::OkStatus();
}

absl::Status MessageAssembly::Append(absl::string_view fragment) {
  if (fragment.size() > total_ - have_) {
    return absl::InternalError(
        absl::StrCat("fragments have ", have_ + fragment.size(), " bytes, message_length is ", total_));
  }
  std::memcpy(bytes_.get() + have_, fragment.data(), fragment.size());
  have_ += fragment.size();
  return absl::OkStatus();
}

absl::Status MessageAssembly::TooShort() const {
  return absl::InternalError(absl::StrCat("fragments have ", have_, " bytes, message_length is ", total_));
}

void MessageAssembly::Reset() {
  if (budget_ == nullptr) return;
  budget_->GiveBack(total_);
  budget_ = nullptr;
  bytes_.reset();
  have_ = total_ = credit_ = 0;
}

}  // namespace ferry
