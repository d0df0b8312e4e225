#include "ferry/rpc/budget.h"

#include "absl/strings/str_cat.h"

namespace ferry {

bool Budget::Take(size_t bytes) {
  size_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ - used) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  if (part_of_ == nullptr || part_of_->Take(bytes)) return true;
  used_.fetch_sub(bytes, std::memory_order_relaxed);
  return false;
}

absl::Status Budget::Exhausted(size_t bytes) const {
  const Budget& full = part_of_ != nullptr && bytes <= limit_ - used() ? *part_of_ : *this;
  return absl::ResourceExhaustedError(absl::StrCat("message is ", bytes, " bytes, but ", full.used(), " of ",
                                                   full.limit(), " bytes for messages are in use"));
}

void Budget::GiveBack(size_t bytes) {
  used_.fetch_sub(bytes, std::memory_order_relaxed);
  if (part_of_ != nullptr) part_of_->GiveBack(bytes);
}

}  // namespace ferry
