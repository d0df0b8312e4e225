// The bytes that the conformance table's messages carry.
#ifndef FERRY_TESTS_CONFORMANCE_PAYLOAD_H_
#define FERRY_TESTS_CONFORMANCE_PAYLOAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tests/conformance/conformance.pb.h"

namespace ferry::test::conformance {

// `size` bytes that tell their size and each its place. Valid for as long as the program runs. REQUIRES: size
// is at most 1,000,000.
absl::string_view PatternOf(size_t size);

// A request with a payload of `size` bytes, for replies of `reply_sizes`.
Request RequestOf(size_t size, const std::vector<uint32_t>& reply_sizes = {});

// A reply with a payload of `size` bytes.
Reply ReplyOf(size_t size);

// A request that has its call end with `status`, in a stream of requests at once.
Request EndingWith(const absl::Status& status);

// The status that a request asks for.
absl::Status StatusOf(const Request& request);

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_PAYLOAD_H_
