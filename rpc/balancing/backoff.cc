#include "ferry/rpc/balancing/backoff.h"

#include <algorithm>
#include <cmath>

#include "absl/random/distributions.h"

namespace ferry {

Backoff::Backoff(absl::Duration first, absl::Duration most, uint64_t seed)
    : first_(first), most_(most), random_(seed != 0 ? seed : std::random_device()()) {}

absl::Duration Backoff::Wait(int failures, absl::Duration first, absl::Duration most) {
  const double bound = std::min(absl::ToDoubleSeconds(std::max(first, most)),
                                absl::ToDoubleSeconds(first) * std::exp2(failures));
  return absl::Seconds(absl::Uniform(random_, 0.0, bound));
}

}  // namespace ferry
