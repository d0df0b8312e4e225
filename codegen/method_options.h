// Reads and checks the options that a .proto gives its methods.
#ifndef FERRY_CODEGEN_METHOD_OPTIONS_H_
#define FERRY_CODEGEN_METHOD_OPTIONS_H_

#include <google/protobuf/duration.pb.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/codegen/model.h"

namespace ferry::codegen {

// Sets the fields of `method` that come from its options. INVALID_ARGUMENT, with what is wrong,
// if its timeout makes no sense, or its retry policy, or that does not go with what the method is.
absl::Status ReadOptions(Method& method);

// The duration `name` in microseconds, rounded down. INVALID_ARGUMENT if it is no valid duration or below 1
// microsecond.
absl::StatusOr<int64_t> ToMicroseconds(absl::string_view name, const google::protobuf::Duration& value);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_METHOD_OPTIONS_H_
