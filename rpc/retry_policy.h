// How often, when and to how many servers at once a call is sent.
#ifndef FERRY_RPC_RETRY_POLICY_H_
#define FERRY_RPC_RETRY_POLICY_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/method.h"

namespace ferry {

// A RetryPolicy says how calls to a service of several servers are sent again; what it leaves unset, somebody
// else says. What a call's options set (CallOptions::retry) counts before what the method's .proto sets
// (rpc/options.proto), and that before the channel's (ChannelOptions::retry); the defaults come last. A
// channel to one server has no use for it.
//
// A value, trivially copyable.
struct RetryPolicy {
  // How often at most a call is sent that a server may have executed, the first time included: of an
  // idempotent method, if it ends with UNAVAILABLE; of any, if it was refused and the server says when to
  // come back. 1 to 10. Default: 3.
  std::optional<int> max_attempts = std::nullopt;

  // A further attempt that no other server is free for waits for a random time of up to a bound, which
  // doubles from the first value to the second with each attempt; a second value that is less than the first
  // counts as the first. At least 1 us each. Defaults: 20 ms and 1 s.
  std::optional<absl::Duration> initial_backoff = std::nullopt;
  std::optional<absl::Duration> max_backoff = std::nullopt;

  // A call without an answer after this time is sent to another server too, and to a third after as long
  // again, up to max_attempts and as far as the retry budget goes: the first answer counts, and the other
  // attempts are cancelled. For idempotent methods without streams; of other methods' calls it is ignored in
  // the channel's policy and an error in the call's own. At least 1 us; infinite: never. Default: never.
  std::optional<absl::Duration> hedge_delay = std::nullopt;
};

// INVALID_ARGUMENT, naming it, with the value and the limit, for what is out of its bounds.
absl::Status CheckRetryPolicy(const RetryPolicy& policy);

// RetryRules are what holds for one call: a value.
struct RetryRules {
  int max_attempts = 3;
  absl::Duration initial_backoff = absl::Milliseconds(20);
  absl::Duration max_backoff = absl::Seconds(1);
  absl::Duration hedge_delay = absl::InfiniteDuration();

  // Whether calls are sent to a further server before the first has answered.
  bool hedge() const { return hedge_delay != absl::InfiniteDuration() && max_attempts > 1; }

  // Lets what is set count before what holds so far.
  void Apply(const RetryPolicy& policy);
  void Apply(const MethodRetry& method);
};

// Whether calls of the method may be hedged.
constexpr bool MayHedge(const MethodDescriptor& method) {
  return method.idempotent && !method.client_streaming && !method.server_streaming;
}

// The rules of a call of `method`, over those of its channel. INVALID_ARGUMENT, naming the method, if the
// call's own policy is out of bounds, or asks for a hedge that the method does not allow.
absl::Status ApplyToCall(const MethodDescriptor& method, const std::optional<RetryPolicy>& policy,
                         RetryRules& rules);

}  // namespace ferry

#endif  // FERRY_RPC_RETRY_POLICY_H_
