// Statuses without their details.
#ifndef FERRY_TESTS_TESTING_PLAIN_STATUS_H_
#define FERRY_TESTS_TESTING_PLAIN_STATUS_H_

#include "absl/status/status.h"

namespace ferry::test {

// The code and the text of `status`, to compare with: a status that is not the server's carries a detail,
// which equality counts.
inline absl::Status Plain(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_PLAIN_STATUS_H_
