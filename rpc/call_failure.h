// What is known of a call that has failed.
#ifndef FERRY_RPC_CALL_FAILURE_H_
#define FERRY_RPC_CALL_FAILURE_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/call_failure.pb.h"

namespace ferry {

// The type URL of the detail in a status (absl::Status::GetPayload), as protobuf's Any has it.
inline constexpr absl::string_view kCallFailureUrl = "type.googleapis.com/ferry.CallFailure";

// What the status of a call says of it: where it failed, how often it was sent and whereto, and whether it
// may have been executed. nullopt if the status carries no such detail: it is OK, or what the handler has
// answered at the first attempt. A detail of this kind that a server sends, for a call of its own that has
// failed, say, is not kept.
std::optional<CallFailure> FailureOf(const absl::Status& status);

// Puts `failure` in a status that is not OK.
void SetFailure(const CallFailure& failure, absl::Status& status);

}  // namespace ferry

#endif  // FERRY_RPC_CALL_FAILURE_H_
