// Reads and checks the options that a .proto gives its methods.
#ifndef FERRY_CODEGEN_METHOD_OPTIONS_H_
#define FERRY_CODEGEN_METHOD_OPTIONS_H_

#include <google/protobuf/duration.pb.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "ferry/codegen/model.h"

namespace ferry::codegen {

// Sets the fields of `method` that come from its options. INVALID_ARGUMENT, with what is wrong,
// if the method cannot be served or called: it streams, or its timeout makes no sense.
absl::Status ReadOptions(Method& method);

// A default timeout in microseconds, rounded down. INVALID_ARGUMENT if it is no valid duration or below 1
// microsecond.
absl::StatusOr<int64_t> TimeoutMicroseconds(const google::protobuf::Duration& timeout);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_METHOD_OPTIONS_H_
