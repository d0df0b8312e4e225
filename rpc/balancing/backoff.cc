#include "ferry/rpc/balancing/backoff.h"

#include <algorithm>
#include <cmath>

#include "absl/random/distributions.h"

namespace ferry {

Backoff::Backoff(absl::Duration first, absl::Duration most, uint64_t seed)
    : first_(first), most_(most), random_(seed != 0 ? seed : std::random_device()()) {}

absl::Duration Backoff::Wait(int failures) {
  const double bound =
      std::min(absl::ToDoubleSeconds(most_), absl::ToDoubleSeconds(first_) * std::exp2(failures));
  return absl::Seconds(absl::Uniform(random_, 0.0, bound));
}

}  // namespace ferry
