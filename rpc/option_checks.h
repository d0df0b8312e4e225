// How an option is refused that is out of its bounds.
#ifndef FERRY_RPC_OPTION_CHECKS_H_
#define FERRY_RPC_OPTION_CHECKS_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ferry {

// INVALID_ARGUMENT, with the option's name, value and limit, if `value` is less than `least`.
inline absl::Status CheckAtLeast(absl::string_view name, absl::Duration value, absl::Duration least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", absl::FormatDuration(value),
                                                 ", must be at least ", absl::FormatDuration(least)));
}

}  // namespace ferry

#endif  // FERRY_RPC_OPTION_CHECKS_H_
