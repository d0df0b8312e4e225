#include "ferry/rpc/retry_policy.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry {
namespace {

absl::Status CheckDuration(absl::string_view name, const std::optional<absl::Duration>& value) {
  if (!value.has_value() || *value >= absl::Microseconds(1)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("retry.", name, " is ", absl::FormatDuration(*value), ", it must be at least 1us"));
}

template <typename T>
void SetIfGiven(const std::optional<T>& value, T& rule) {
  if (value.has_value()) rule = *value;
}

void SetIfGiven(int64_t microseconds, absl::Duration& rule) {
  if (microseconds > 0) rule = absl::Microseconds(microseconds);
}

// Where there is only one attempt.
absl::Status CheckNoHedge(const RetryPolicy& policy) {
  const absl::Duration delay = policy.hedge_delay.value_or(absl::InfiniteDuration());
  if (delay == absl::InfiniteDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("retry.hedge_delay is ", absl::FormatDuration(delay),
                   ", but retry.max_attempts is 1: there is no other attempt, it must be 2 to ",
                   MethodRetry::kMaxAttempts));
}

}  // namespace

absl::Status CheckRetryPolicy(const RetryPolicy& policy) {
  const int attempts = policy.max_attempts.value_or(1);
  absl::Status valid;
  if (attempts < 1 || attempts > MethodRetry::kMaxAttempts) {
    valid = absl::InvalidArgumentError(
        absl::StrCat("retry.max_attempts is ", attempts, ", it must be 1 to ", MethodRetry::kMaxAttempts));
  }
  valid.Update(CheckDuration("initial_backoff", policy.initial_backoff));
  valid.Update(CheckDuration("max_backoff", policy.max_backoff));
  valid.Update(CheckDuration("hedge_delay", policy.hedge_delay));
  if (policy.max_attempts == 1) valid.Update(CheckNoHedge(policy));
  return valid;
}

void RetryRules::Apply(const RetryPolicy& policy) {
  SetIfGiven(policy.max_attempts, max_attempts);
  SetIfGiven(policy.initial_backoff, initial_backoff);
  SetIfGiven(policy.max_backoff, max_backoff);
  SetIfGiven(policy.hedge_delay, hedge_delay);
}

void RetryRules::Apply(const MethodRetry& method) {
  if (method.max_attempts > 0) max_attempts = method.max_attempts;
  SetIfGiven(method.initial_backoff_us, initial_backoff);
  SetIfGiven(method.max_backoff_us, max_backoff);
  SetIfGiven(method.hedge_delay_us, hedge_delay);
}

absl::Status ApplyToCall(const MethodDescriptor& method, const std::optional<RetryPolicy>& policy,
                         RetryRules& rules) {
  rules.Apply(method.retry);
  if (!MayHedge(method)) rules.hedge_delay = absl::InfiniteDuration();
  if (!policy.has_value()) return absl::OkStatus();
  if (absl::Status valid = CheckRetryPolicy(*policy); !valid.ok()) {
    return absl::Status(valid.code(), absl::StrCat(std::string(valid.message()), ", for ", method.full_name));
  }
  const absl::Duration delay = policy->hedge_delay.value_or(absl::InfiniteDuration());
  if (delay != absl::InfiniteDuration() && !MayHedge(method)) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.hedge_delay is ", absl::FormatDuration(delay), ", but ", method.full_name,
                     method.idempotent ? " has streams" : " is not idempotent"));
  }
  rules.Apply(*policy);
  return rules.max_attempts > 1 ? absl::OkStatus() : CheckNoHedge(*policy);
}

}  // namespace ferry
