#include "ferry/rpc/retry_policy.h"

#include <optional>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/method.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

constexpr MethodDescriptor kGet = {
    .full_name = "s.S/Get",
    .id = 1,
    .idempotent = true,
    .retry = {.max_attempts = 4, .max_backoff_us = 2'000, .hedge_delay_us = 50'000}};
constexpr MethodDescriptor kAdd = {.full_name = "s.S/Add", .id = 2};
constexpr MethodDescriptor kWatch = {
    .full_name = "s.S/Watch", .id = 3, .idempotent = true, .server_streaming = true};

// GCC 12 copies options byte by byte where they are temporaries in a co_await.
static_assert(std::is_trivially_copyable_v<std::optional<RetryPolicy>>);

// The rules of a call over a channel with `channel`.
RetryRules RulesOf(const MethodDescriptor& method, const RetryPolicy& channel,
                   const std::optional<RetryPolicy>& call = std::nullopt) {
  RetryRules rules;
  rules.Apply(channel);
  EXPECT_EQ(ApplyToCall(method, call, rules), absl::OkStatus());
  return rules;
}

absl::Status ErrorOf(const MethodDescriptor& method, const RetryPolicy& call) {
  RetryRules rules;
  return ApplyToCall(method, call, rules);
}

TEST(RetryPolicyTest, HasDefaults) {
  const RetryRules rules = RulesOf(kAdd, {});
  EXPECT_EQ(rules.max_attempts, 3);
  EXPECT_EQ(rules.initial_backoff, absl::Milliseconds(20));
  EXPECT_EQ(rules.max_backoff, absl::Seconds(1));
  EXPECT_FALSE(rules.hedge());
}

TEST(RetryPolicyTest, TheMethodCountsBeforeTheChannelValueByValue) {
  const RetryRules rules = RulesOf(
      kGet, {.max_attempts = 2, .initial_backoff = absl::Milliseconds(1), .max_backoff = absl::Seconds(9)});
  EXPECT_EQ(rules.max_attempts, 4);
  EXPECT_EQ(rules.initial_backoff, absl::Milliseconds(1));
  EXPECT_EQ(rules.max_backoff, absl::Milliseconds(2));
  EXPECT_EQ(rules.hedge_delay, absl::Milliseconds(50));
}

TEST(RetryPolicyTest, TheCallCountsBeforeTheMethod) {
  const RetryRules rules = RulesOf(kGet, {}, RetryPolicy{.hedge_delay = absl::Milliseconds(7)});
  EXPECT_EQ(rules.max_attempts, 4);
  EXPECT_EQ(rules.hedge_delay, absl::Milliseconds(7));
}

TEST(RetryPolicyTest, ACallCanDoWithoutHedging) {
  EXPECT_TRUE(RulesOf(kGet, {}).hedge());
  EXPECT_FALSE(RulesOf(kGet, {}, RetryPolicy{.hedge_delay = absl::InfiniteDuration()}).hedge());
  EXPECT_FALSE(RulesOf(kGet, {}, RetryPolicy{.max_attempts = 1}).hedge());
}

TEST(RetryPolicyTest, AChannelHedgesOnlyWhatMayBeHedged) {
  const RetryPolicy channel = {.hedge_delay = absl::Milliseconds(5)};
  EXPECT_FALSE(RulesOf(kAdd, channel).hedge());
  EXPECT_FALSE(RulesOf(kWatch, channel).hedge());
}

TEST(RetryPolicyTest, RefusesToHedgeACallThatMayNotBe) {
  EXPECT_EQ(ErrorOf(kAdd, {.hedge_delay = absl::Milliseconds(5)}),
            absl::InvalidArgumentError("retry.hedge_delay is 5ms, but s.S/Add is not idempotent"));
  EXPECT_EQ(ErrorOf(kWatch, {.hedge_delay = absl::Milliseconds(5)}),
            absl::InvalidArgumentError("retry.hedge_delay is 5ms, but s.S/Watch has streams"));
}

TEST(RetryPolicyTest, RefusesToHedgeWithOneAttemptWhoeverSaysSo) {
  const absl::Status wanted = absl::InvalidArgumentError(
      "retry.hedge_delay is 5ms, but retry.max_attempts is 1: there is no other attempt, it must be 2 to 10");
  EXPECT_EQ(CheckRetryPolicy({.max_attempts = 1, .hedge_delay = absl::Milliseconds(5)}), wanted);
  MethodDescriptor once = kGet;
  once.retry.max_attempts = 1;
  EXPECT_EQ(ErrorOf(once, {.hedge_delay = absl::Milliseconds(5)}), wanted);
  EXPECT_EQ(ErrorOf(once, {.max_attempts = 2, .hedge_delay = absl::Milliseconds(5)}), absl::OkStatus());
}

TEST(RetryPolicyTest, NamesWhatIsOutOfItsBounds) {
  EXPECT_EQ(CheckRetryPolicy({.max_attempts = 0}),
            absl::InvalidArgumentError("retry.max_attempts is 0, it must be 1 to 10"));
  EXPECT_EQ(CheckRetryPolicy({.max_attempts = 11}),
            absl::InvalidArgumentError("retry.max_attempts is 11, it must be 1 to 10"));
  EXPECT_EQ(CheckRetryPolicy({.initial_backoff = absl::ZeroDuration()}),
            absl::InvalidArgumentError("retry.initial_backoff is 0, it must be at least 1us"));
  EXPECT_EQ(CheckRetryPolicy({.max_backoff = -absl::Seconds(1)}),
            absl::InvalidArgumentError("retry.max_backoff is -1s, it must be at least 1us"));
  EXPECT_EQ(ErrorOf(kGet, {.hedge_delay = absl::ZeroDuration()}),
            absl::InvalidArgumentError("retry.hedge_delay is 0, it must be at least 1us, for s.S/Get"));
  EXPECT_EQ(CheckRetryPolicy({.max_attempts = 10, .hedge_delay = absl::InfiniteDuration()}),
            absl::OkStatus());
}

}  // namespace
}  // namespace ferry
