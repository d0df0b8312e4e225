// How a fleet sends one call to several servers, and takes the first answer.
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/hedged_call.h"

namespace ferry {

using transport::Instant;

namespace {

// Whether an attempt that has ended so leaves it to the others to end the call: its server is out of order,
// or did not let the call in.
bool LeavesToOthers(const absl::Status& status, Execution execution) {
  return absl::IsUnavailable(status) ||
         (execution == Execution::kNotSent && absl::IsResourceExhausted(status));
}

}  // namespace

// Prepares for further attempts at a call that is set out just now, with its request in its block.
void Fleet::BeginHedging(ClientCall& call) {
  CallRouting& routing = *call.routing;
  if (routing.hedged == nullptr) {
    routing.hedged = std::make_shared<HedgedCall>(call, [this, &call] { OnHedgeDue(call); });
  }
  HedgedCall& hedged = *routing.hedged;
  hedged.request = call.request_block;
  // All of them have ended.
  hedged.others.clear();
  hedged.tried.assign(1, routing.member.get());
  ArmHedge(hedged);
}

// The next attempt is due a delay from now, if there may be one.
void Fleet::ArmHedge(HedgedCall& hedged) {
  const CallRouting& routing = *hedged.call.routing;
  const Instant due = loop_.clock().Now() + routing.rules.hedge_delay;
  const bool wanted = !hedged.stopped && routing.attempts < routing.rules.max_attempts;
  if (wanted && due < hedged.call.deadline) loop_.timers().Arm(hedged.timer, due);
}

// Sends a call without an answer to another server too. Where there is none, or the budget is spent, it is
// not hedged any more.
void Fleet::OnHedgeDue(ClientCall& call) {
  const std::shared_ptr<Fleet> self = shared_from_this();
  const std::shared_ptr<HedgedCall> hedged = call.routing->hedged;
  if (!closed_.ok()) return;
  const Instant now = loop_.clock().Now();
  const std::shared_ptr<FleetMember> member = PickAndTake(*call.routing, now, hedged->tried);
  if (member == nullptr) return;
  if (!retry_budget_.TryWithdraw(now)) {
    member->load().OnAbandoned();
    return CloseIfRetired(*member);
  }
  hedged->others.push_back(std::make_unique<HedgeAttempt>(call, hedged->request));
  HedgeAttempt& attempt = *hedged->others.back();
  attempt.routing->hedged = hedged;
  hedged->tried.push_back(member.get());
  calls_.fetch_add(1, std::memory_order_relaxed);
  hedges_.fetch_add(1, std::memory_order_relaxed);
  SetOut(attempt, member, now);
  call.routing->attempts = attempt.routing->attempts;
  ArmHedge(*hedged);
  member->endpoint().StartAgain(attempt, /*admitted=*/false);
}

// One of the attempts at a call has ended, or was given back without having been sent.
void Fleet::OnHedgedEnd(ClientCall& attempt, const FleetMember& member, absl::Status status) {
  const std::shared_ptr<HedgedCall> hedged = attempt.routing->hedged;
  const bool own = &attempt == &hedged->call;
  if (!own) {
    // It holds what holds it until now.
    attempt.routing->hedged = nullptr;
    calls_.fetch_sub(1, std::memory_order_release);
  }
  if (hedged->ended) return;
  ClientCall& call = hedged->call;
  CallRouting& routing = *call.routing;
  if (attempt.execution != Execution::kNotSent) ++routing.runs;
  call.phase = attempt.phase;
  if (!status.ok()) Note(routing, attempt.routing->sent_at, member, status);
  if (hedged->outcome.has_value()) {
    if (own) EndHedged(*hedged);
    return;
  }
  if (!closed_.ok() || !LeavesToOthers(status, attempt.execution)) {
    if (!own) {
      hedged->execution = attempt.execution;
      if (call.reply_metadata != nullptr) {
        *call.reply_metadata = std::move(static_cast<HedgeAttempt&>(attempt).metadata());
      }
    }
    return Decide(hedged, status.ok() || closed_.ok() ? std::move(status) : closed_);
  }
  if (attempt.routing->retry_after.has_value() || absl::IsResourceExhausted(status)) {
    hedged->stopped = true;
    loop_.timers().Cancel(hedged->timer);
  }
  if (hedged->under_way()) return;
  loop_.timers().Cancel(hedged->timer);
  call.execution = attempt.execution;
  routing.retry_after = attempt.routing->retry_after;
  // The attempt may be gone when this returns.
  OnFailedAttempt(call, member, std::move(status));
}

// The call ends with `status`: the attempts that are under way have lost.
void Fleet::Decide(const std::shared_ptr<HedgedCall>& hedged, absl::Status status) {
  const std::shared_ptr<Fleet> self = shared_from_this();
  hedged->outcome = std::move(status);
  loop_.timers().Cancel(hedged->timer);
  const absl::Status lost = absl::CancelledError("another attempt has ended the call");
  for (const std::unique_ptr<HedgeAttempt>& other : hedged->others) {
    if (const std::shared_ptr<FleetMember> member = other->routing->member; member != nullptr) {
      member->endpoint().CancelCall(*other, lost);
    }
    // What that may have closed had calls whose callbacks may have closed all.
    if (hedged->ended) return;
  }
  const std::shared_ptr<FleetMember> member = hedged->call.routing->member;
  if (member == nullptr) return EndHedged(*hedged);
  // Its end is the call's. It may also be on its way back from the endpoint.
  member->endpoint().CancelCall(hedged->call, lost);
}

void Fleet::EndHedged(HedgedCall& hedged) {
  if (hedged.execution.has_value()) hedged.call.execution = *hedged.execution;
  Finish(hedged.call, *std::move(hedged.outcome));
}

// The call has ended; what is left of its attempts is not its any more.
void Fleet::LeaveHedged(CallRouting& routing) {
  routing.hedged->ended = true;
  loop_.timers().Cancel(routing.hedged->timer);
  routing.hedged = nullptr;
}

}  // namespace ferry
