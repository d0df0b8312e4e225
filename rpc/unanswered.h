// Calls that end without their server having ended them.
#ifndef FERRY_RPC_UNANSWERED_H_
#define FERRY_RPC_UNANSWERED_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/call_failure.pb.h"
#include "ferry/rpc/call_routing.h"
#include "ferry/rpc/client_call.h"

namespace ferry {

// An Unanswered is what is known of a call that has come no further: a value.
struct Unanswered {
  // Unset: it was not begun.
  std::optional<CallPhase> phase = std::nullopt;
  // The server; empty if it is not known.
  absl::string_view peer = {};
  // The call was given to a connection, of whose server it has not had an answer.
  bool sent = false;
};

// Ends `call` with `why`, which is not OK; whether it may have been executed is in it. A router that
// describes failures is told the same, and how far the call had come; to the status of other calls that is
// added as a CallFailure. As ClientCall::End.
void EndUnanswered(ClientCall& call, const Unanswered& how, absl::Status why);

// As CallFailure has them.
CallFailure::Execution ProtoOf(Execution execution);
CallFailure::Phase ProtoOf(CallPhase phase);

// `status`, which is not OK, with `failure` in it. What the failure has of it, the status need not carry any
// more; its text says the rest for a person to act on.
absl::Status WithFailure(CallFailure failure, absl::Status status);

}  // namespace ferry

#endif  // FERRY_RPC_UNANSWERED_H_
