#include "ferry/rpc/message_assembly.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry {

absl::Status MessageAssembly::Begin(uint64_t total, uint64_t max_message, Budget& budget,
                                    transport::BlockCache& blocks) {
  if (total > max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", total, " bytes, limit is ", max_message));
  }
  if (!budget.Take(total)) return budget.Exhausted(total);
  budget_ = &budget;
  // Not initialised: pages of a large message that the peer never fills cost nothing.
  if (total > 0) block_ = blocks.Allocate(total);
  have_ = 0;
  total_ = total;
  return absl::OkStatus();
}

absl::Status MessageAssembly::Append(absl::string_view fragment) {
  if (fragment.size() > total_ - have_) {
    return absl::InternalError(
        absl::StrCat("fragments have ", have_ + fragment.size(), " bytes, message_length is ", total_));
  }
  if (fragment.empty()) return absl::OkStatus();
  std::memcpy(block_.data() + have_, fragment.data(), fragment.size());
  have_ += fragment.size();
  return absl::OkStatus();
}

absl::Status MessageAssembly::TooShort() const {
  return absl::InternalError(absl::StrCat("fragments have ", have_, " bytes, message_length is ", total_));
}

transport::Block MessageAssembly::Take() {
  transport::Block block = std::move(block_);
  Reset();
  return block;
}

void MessageAssembly::Reset() {
  if (budget_ == nullptr) return;
  budget_->GiveBack(total_);
  budget_ = nullptr;
  block_ = transport::Block();
  have_ = total_ = credit_ = 0;
}

}  // namespace ferry
