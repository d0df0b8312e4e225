#include "ferry/rpc/pool_options.h"

#include "absl/strings/str_cat.h"
#include "ferry/rpc/option_checks.h"

namespace ferry {
namespace {

constexpr size_t kMostConnections = 1024;
constexpr absl::Duration kLeastTime = absl::Milliseconds(1);

}  // namespace

absl::Status CheckPoolOptions(const PoolOptions& options, bool of_service) {
  const size_t max = options.max_connections;
  if (max < 1 || max > kMostConnections) {
    return absl::InvalidArgumentError(
        absl::StrCat("pool.max_connections is ", max, ", must be in [1, ", kMostConnections, "]"));
  }
  const size_t least = of_service ? 1 : 0;
  if (const size_t min = options.min_connections.value_or(least); min < least || min > max) {
    return absl::InvalidArgumentError(absl::StrCat("pool.min_connections is ", min, ", must be in [", least,
                                                   ", ", max, "], the latter being max_connections"));
  }
  if (options.calls_per_connection < 1) {
    return absl::InvalidArgumentError("pool.calls_per_connection is 0, must be at least 1");
  }
  if (!(options.max_age_jitter >= 0 && options.max_age_jitter <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("pool.max_age_jitter is ", options.max_age_jitter, ", must be in [0, 1]"));
  }
  absl::Status valid = CheckAtLeast("pool.max_age", options.max_age, kLeastTime);
  valid.Update(
      CheckAtLeast("pool.idle_timeout", options.idle_timeout.value_or(absl::InfiniteDuration()), kLeastTime));
  return valid;
}

bool WantsPool(const PoolOptions& options, bool of_service) {
  return options.max_connections > 1 || options.exclusive ||
         options.min_connections.value_or(0) > (of_service ? 1 : 0) ||
         options.idle_timeout.value_or(absl::InfiniteDuration()) < absl::InfiniteDuration() ||
         options.max_age < absl::InfiniteDuration() || options.when_full == PoolOptions::WhenFull::kFail;
}

}  // namespace ferry
