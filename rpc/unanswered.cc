#include "ferry/rpc/unanswered.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/error_number.h"

namespace ferry {

CallFailure::Execution ProtoOf(Execution execution) {
  switch (execution) {
    case Execution::kNotSent:
      return CallFailure::NOT_SENT;
    case Execution::kMaybeExecuted:
      return CallFailure::MAYBE_EXECUTED;
    case Execution::kExecuted:
      return CallFailure::EXECUTED;
  }
  return CallFailure::EXECUTION_UNSPECIFIED;
}

CallFailure::Phase ProtoOf(CallPhase phase) {
  switch (phase) {
    case CallPhase::kConnect:
      return CallFailure::CONNECT;
    case CallPhase::kHandshake:
      return CallFailure::HANDSHAKE;
    case CallPhase::kQueue:
      return CallFailure::QUEUE;
    case CallPhase::kSent:
      return CallFailure::SENT;
    case CallPhase::kReading:
      return CallFailure::READING;
  }
  return CallFailure::PHASE_UNSPECIFIED;
}

absl::Status WithFailure(CallFailure failure, absl::Status status) {
  if (const int error = transport::TakeErrorNumber(status); error != 0) failure.set_errno_value(error);
  if (absl::IsUnavailable(status) && failure.execution() == CallFailure::MAYBE_EXECUTED) {
    status = absl::UnavailableError(
        absl::StrCat(std::string(status.message()), "; the call may have been executed"));
  }
  SetFailure(failure, status);
  return status;
}

void EndUnanswered(ClientCall& call, const Unanswered& how, absl::Status why) {
  call.phase = how.phase.value_or(CallPhase::kQueue);
  if (call.router != nullptr && call.router->Describes(call)) return call.End(std::move(why));
  CallFailure failure;
  failure.set_execution(ProtoOf(call.execution));
  if (how.phase.has_value()) failure.set_phase(ProtoOf(*how.phase));
  failure.set_peer(how.peer.data(), how.peer.size());
  // The request's head says how often it was sent before.
  failure.set_attempt_count(AttemptOf(call.head) - (how.sent ? 0 : 1));
  call.End(WithFailure(std::move(failure), std::move(why)));
}

}  // namespace ferry
