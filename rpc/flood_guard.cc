#include "ferry/rpc/flood_guard.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace ferry {

absl::Status FloodGuard::Count(transport::Instant now) {
  if (count_ == 0 || now - second_began_ >= absl::Seconds(1)) {
    second_began_ = now;
    count_ = 0;
  }
  if (++count_ <= limit_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(count_, " control frames within a second, limit is ", limit_));
}

}  // namespace ferry
