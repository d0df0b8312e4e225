// The system's error numbers in statuses.
#ifndef FERRY_TRANSPORT_ERROR_NUMBER_H_
#define FERRY_TRANSPORT_ERROR_NUMBER_H_

#include <string>

#include "absl/status/status.h"

namespace ferry::transport {

// "ECONNREFUSED"; the number if it has no name.
std::string ErrorName(int error);

// `status`, which is not OK, with the error number that is its reason: it travels as a payload, which
// equality of statuses counts. 0 adds nothing.
absl::Status WithErrorNumber(absl::Status status, int error);

// The error number that a status carries; 0 if it has none.
int ErrorNumberOf(const absl::Status& status);

// The error number that `status` carries, which then has none any more: for who tells it in another way.
int TakeErrorNumber(absl::Status& status);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_ERROR_NUMBER_H_
