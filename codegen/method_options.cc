#include "ferry/codegen/method_options.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/options.pb.h"

namespace ferry::codegen {
namespace {

// The limits of google.protobuf.Duration.
constexpr int64_t kMaxSeconds = 315'576'000'000;
constexpr int32_t kMaxNanos = 999'999'999;

// Sets `value`, 0 before, to a duration that is given.
absl::Status SetMicroseconds(absl::string_view name, bool given, const google::protobuf::Duration& duration,
                             int64_t& value) {
  if (!given) return absl::OkStatus();
  absl::StatusOr<int64_t> microseconds = ToMicroseconds(name, duration);
  if (microseconds.ok()) value = *microseconds;
  return microseconds.status();
}

// What is wrong with the values of `retry`, by themselves and together.
absl::Status CheckRetry(const Method& method, const MethodOptions::Retry& options) {
  const MethodRetry& retry = method.retry;
  const absl::string_view unfit =
      !method.unary() ? "a method with streams" : "a method that is not idempotent";
  const bool may_repeat = method.unary() && method.idempotent;
  if (options.has_max_attempts() &&
      (options.max_attempts() < 1 || options.max_attempts() > MethodRetry::kMaxAttempts)) {
    return absl::InvalidArgumentError(absl::StrCat("retry.max_attempts is ", options.max_attempts(),
                                                   ", must be 1 to ", MethodRetry::kMaxAttempts));
  }
  if (retry.max_attempts > 1 && !may_repeat) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.max_attempts is ", retry.max_attempts, ", must be 1 for ", unfit));
  }
  if (retry.max_backoff_us > 0 && retry.max_backoff_us < retry.initial_backoff_us) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.max_backoff is ", absl::FormatDuration(absl::Microseconds(retry.max_backoff_us)),
                     ", must be at least retry.initial_backoff, which is ",
                     absl::FormatDuration(absl::Microseconds(retry.initial_backoff_us))));
  }
  if (retry.hedge_delay_us == 0) return absl::OkStatus();
  const std::string delay = absl::FormatDuration(absl::Microseconds(retry.hedge_delay_us));
  if (!may_repeat) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.hedge_delay is ", delay, ", must not be set for ", unfit));
  }
  if (retry.max_attempts == 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.hedge_delay is ", delay, ", must not be set where retry.max_attempts is 1"));
  }
  return absl::OkStatus();
}

absl::Status ReadRetry(const MethodOptions::Retry& options, Method& method) {
  MethodRetry& retry = method.retry;
  if (options.max_attempts() <= MethodRetry::kMaxAttempts) {
    retry.max_attempts = static_cast<int>(options.max_attempts());
  }
  absl::Status valid = SetMicroseconds("retry.initial_backoff", options.has_initial_backoff(),
                                       options.initial_backoff(), retry.initial_backoff_us);
  valid.Update(SetMicroseconds("retry.max_backoff", options.has_max_backoff(), options.max_backoff(),
                               retry.max_backoff_us));
  valid.Update(SetMicroseconds("retry.hedge_delay", options.has_hedge_delay(), options.hedge_delay(),
                               retry.hedge_delay_us));
  valid.Update(CheckRetry(method, options));
  return valid;
}

}  // namespace

absl::StatusOr<int64_t> ToMicroseconds(absl::string_view name, const google::protobuf::Duration& value) {
  const int64_t seconds = value.seconds();
  const int32_t nanos = value.nanos();
  const bool in_range =
      seconds >= -kMaxSeconds && seconds <= kMaxSeconds && nanos >= -kMaxNanos && nanos <= kMaxNanos;
  const bool one_sign = (seconds >= 0 && nanos >= 0) || (seconds <= 0 && nanos <= 0);
  if (!in_range || !one_sign) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is {seconds: ", seconds, " nanos: ", nanos,
                                                   "}, which is no valid google.protobuf.Duration"));
  }
  const int64_t microseconds = seconds * 1'000'000 + nanos / 1'000;
  if (microseconds < 1) {
    const absl::Duration duration = absl::Seconds(seconds) + absl::Nanoseconds(nanos);
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", absl::FormatDuration(duration), ", must be at least 1us"));
  }
  return microseconds;
}

absl::Status ReadOptions(Method& method) {
  const google::protobuf::MethodDescriptor& descriptor = *method.descriptor;
  method.deprecated = descriptor.options().deprecated();
  const MethodOptions& options = descriptor.options().GetExtension(ferry::method);
  method.run_inline = options.inline_();
  method.idempotent = options.idempotent();
  absl::Status valid =
      SetMicroseconds("timeout", options.has_timeout(), options.timeout(), method.timeout_us);
  if (valid.ok() && options.has_retry()) valid = ReadRetry(options.retry(), method);
  return valid;
}

}  // namespace ferry::codegen
