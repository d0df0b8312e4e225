// How long to wait before trying again.
#ifndef FERRY_RPC_BALANCING_BACKOFF_H_
#define FERRY_RPC_BALANCING_BACKOFF_H_

#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace ferry {

// A Backoff is exponential with full jitter: a wait is uniform between zero and a bound that doubles with
// each failure in a row. So clients that failed together do not come back together.
//
// Thread-compatible.
class Backoff {
 public:
  // The bound grows from `first` to `most`. `seed` is of the random waits; 0 takes one from the system.
  Backoff(absl::Duration first, absl::Duration most, uint64_t seed = 0);

  // How long to wait after a failure that followed on `failures` others in a row. Any number from 0.
  absl::Duration Wait(int failures) { return Wait(failures, first_, most_); }
  // The same between other bounds; the second counts as at least the first.
  absl::Duration Wait(int failures, absl::Duration first, absl::Duration most);

 private:
  const absl::Duration first_;
  const absl::Duration most_;
  std::mt19937_64 random_;
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_BACKOFF_H_
