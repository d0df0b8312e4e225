#include "ferry/codegen/method_options.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/options.pb.h"

namespace ferry::codegen {
namespace {

// The limits of google.protobuf.Duration.
constexpr int64_t kMaxSeconds = 315'576'000'000;
constexpr int32_t kMaxNanos = 999'999'999;

}  // namespace

absl::StatusOr<int64_t> TimeoutMicroseconds(const google::protobuf::Duration& timeout) {
  const int64_t seconds = timeout.seconds();
  const int32_t nanos = timeout.nanos();
  const bool in_range =
      seconds >= -kMaxSeconds && seconds <= kMaxSeconds && nanos >= -kMaxNanos && nanos <= kMaxNanos;
  const bool one_sign = (seconds >= 0 && nanos >= 0) || (seconds <= 0 && nanos <= 0);
  if (!in_range || !one_sign) {
    return absl::InvalidArgumentError(absl::StrCat("timeout is {seconds: ", seconds, " nanos: ", nanos,
                                                   "}, which is no valid google.protobuf.Duration"));
  }
  const int64_t microseconds = seconds * 1'000'000 + nanos / 1'000;
  if (microseconds < 1) {
    const absl::Duration duration = absl::Seconds(seconds) + absl::Nanoseconds(nanos);
    return absl::InvalidArgumentError(
        absl::StrCat("timeout is ", absl::FormatDuration(duration), ", must be at least 1us"));
  }
  return microseconds;
}

absl::Status ReadOptions(Method& method) {
  const google::protobuf::MethodDescriptor& descriptor = *method.descriptor;
  method.deprecated = descriptor.options().deprecated();
  const MethodOptions& options = descriptor.options().GetExtension(ferry::method);
  method.run_inline = options.inline_();
  method.idempotent = options.idempotent();
  if (!options.has_timeout()) return absl::OkStatus();
  absl::StatusOr<int64_t> timeout_us = TimeoutMicroseconds(options.timeout());
  if (!timeout_us.ok()) return timeout_us.status();
  method.timeout_us = *timeout_us;
  return absl::OkStatus();
}

}  // namespace ferry::codegen
