// How much a client may retry, so that retries do not multiply an outage.
#ifndef FERRY_RPC_BALANCING_RETRY_BUDGET_H_
#define FERRY_RPC_BALANCING_RETRY_BUDGET_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "ferry/transport/clock.h"

namespace ferry {

// A RetryBudget is a bucket of tokens that a client's calls fill and its retries empty. In a time t with c
// calls there are at most
//
//     max_tokens + min_per_second * t + share * c
//
// retries and hedges.
//
// Thread-safe, without locks. Its atomics order nothing else. A call costs a load while the bucket is full.
class RetryBudget {
 public:
  struct Options {
    // The tokens that each call brings: the share of the calls that may be retried for long. In [0, 1000].
    // 0.2 makes an outage's load at most 1.2 times the usual one.
    double share = 0.2;
    // The tokens that come by themselves: a client that makes few calls may retry them. In [0, 1,000,000].
    double min_per_second = 10;
    // The most there are, and how many there are at first: a short failure of many calls is got over. In
    // [1, 1,000,000].
    double max_tokens = 100;
  };

  // INVALID_ARGUMENT, naming the option, for one that is out of its bounds.
  static absl::Status Check(const Options& options);

  // REQUIRES: Check(options) is OK.
  explicit RetryBudget(const Options& options);

  // A call begins; not a retry of one.
  void OnCall() {
    if (tokens_.load(std::memory_order_relaxed) < max_tokens_) Deposit(per_call_);
  }

  // Whether a retry, or a hedge, may be sent at `now`: takes a token if so.
  bool TryWithdraw(transport::Instant now);

  // How many retries may be sent, as of the last call.
  double tokens() const;
  // How many were refused.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  void Deposit(int64_t amount);
  void DepositForTime(transport::Instant now);

  // In millionths of a token.
  const int64_t per_call_;
  const int64_t max_tokens_;
  const double per_nano_;
  std::atomic<int64_t> tokens_;
  // Up to when tokens have come by themselves; 0 before the first withdrawal.
  std::atomic<int64_t> filled_until_{0};
  std::atomic<uint64_t> refused_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_RETRY_BUDGET_H_
