#include "ferry/rpc/balancing/retry_budget.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ferry {
namespace {

constexpr double kMillion = 1e6;
constexpr int64_t kToken = 1'000'000;

absl::Status CheckBounds(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, ", must be in [", least, ", ", most, "]"));
}

}  // namespace

absl::Status RetryBudget::Check(const Options& options) {
  absl::Status status = CheckBounds("share", options.share, 0, 1000);
  if (status.ok()) status = CheckBounds("min_per_second", options.min_per_second, 0, kMillion);
  if (status.ok()) status = CheckBounds("max_tokens", options.max_tokens, 1, kMillion);
  return status;
}

RetryBudget::RetryBudget(const Options& options)
    : per_call_(static_cast<int64_t>(options.share * kMillion)),
      max_tokens_(static_cast<int64_t>(options.max_tokens * kMillion)),
      per_nano_(options.min_per_second * kMillion / 1e9),
      tokens_(max_tokens_) {}

void RetryBudget::Deposit(int64_t amount) {
  int64_t before = tokens_.load(std::memory_order_relaxed);
  while (before < max_tokens_ &&
         !tokens_.compare_exchange_weak(before, std::min(before + amount, max_tokens_),
                                        std::memory_order_relaxed)) {
  }
}

// Whoever moves the time forward brings the tokens of what has passed.
void RetryBudget::DepositForTime(transport::Instant now) {
  int64_t before = filled_until_.load(std::memory_order_relaxed);
  do {
    if (now.nanos <= before) return;
  } while (!filled_until_.compare_exchange_weak(before, now.nanos, std::memory_order_relaxed));
  if (before == 0) return;
  const double amount = static_cast<double>(now.nanos - before) * per_nano_;
  Deposit(static_cast<int64_t>(std::min(amount, static_cast<double>(max_tokens_))));
}

bool RetryBudget::TryWithdraw(transport::Instant now) {
  DepositForTime(now);
  int64_t before = tokens_.load(std::memory_order_relaxed);
  do {
    if (before < kToken) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!tokens_.compare_exchange_weak(before, before - kToken, std::memory_order_relaxed));
  return true;
}

double RetryBudget::tokens() const {
  return static_cast<double>(tokens_.load(std::memory_order_relaxed)) / kMillion;
}

}  // namespace ferry
