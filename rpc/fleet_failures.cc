// What a fleet says of calls that have failed.
#include <algorithm>
#include <string>

#include "absl/time/time.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/unanswered.h"
#include "ferry/transport/error_number.h"

namespace ferry {
namespace {

void SetDuration(absl::Duration duration, google::protobuf::Duration& proto) {
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

}  // namespace

// Remembers how an attempt that began then has ended.
void Fleet::Note(CallRouting& routing, transport::Instant began, const FleetMember& member,
                 const absl::Status& status) const {
  if (routing.history.size() == CallRouting::kMaxHistory) routing.history.erase(routing.history.begin());
  // A server that is in no list any more keeps its name.
  routing.history.push_back(
      {.peer = member.server().name, .began = began, .ended = loop_.clock().Now(), .status = status});
}

// How far the call has come.
CallFailure::Phase Fleet::PhaseOf(const ClientCall& call) const {
  if (call.execution == Execution::kExecuted) return CallFailure::EXECUTING;
  if (call.routing->attempts > 0) return ProtoOf(call.phase);
  if (usable_servers() > 0) return CallFailure::QUEUE;
  return told_ ? CallFailure::CONNECT : CallFailure::RESOLVE;
}

CallFailure Fleet::Describe(const ClientCall& call) const {
  const CallRouting& routing = *call.routing;
  CallFailure failure;
  // A call that was sent twice may have been executed by the first, whatever became of the second.
  failure.set_execution(
      ProtoOf(routing.runs > 0 ? std::max(call.execution, Execution::kMaybeExecuted) : call.execution));
  failure.set_phase(PhaseOf(call));
  failure.set_attempt_count(routing.attempts);
  for (const CallRouting::PastAttempt& past : routing.history) {
    CallFailure::Attempt& attempt = *failure.add_attempts();
    attempt.set_peer(past.peer);
    SetDuration(past.began - routing.started, *attempt.mutable_began());
    SetDuration(past.ended - past.began, *attempt.mutable_took());
    attempt.set_code(static_cast<int>(past.status.code()));
    attempt.set_message(std::string(past.status.message()));
    // The last counts.
    failure.set_errno_value(transport::ErrorNumberOf(past.status));
  }
  if (!routing.history.empty()) failure.set_peer(routing.history.back().peer);
  return failure;
}

}  // namespace ferry
