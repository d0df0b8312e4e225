// The calls of a fleet.
#include "ferry/rpc/fleet.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/hedged_call.h"
#include "ferry/rpc/resend.h"
#include "ferry/rpc/unanswered.h"

namespace ferry {

using transport::Instant;

namespace {

// A server that asks for more does not want the call again.
constexpr absl::Duration kMaxRetryAfter = absl::Minutes(1);

// Whether an attempt that ended so is the server's failure: it is counted against it. What an application
// says of its call is not.
bool IsServersFailure(const absl::Status& status, Execution execution) {
  if (absl::IsUnavailable(status)) return true;
  return absl::IsDeadlineExceeded(status) && execution == Execution::kMaybeExecuted;
}

RetryRules RulesOf(const RetryPolicy& policy) {
  RetryRules rules;
  rules.Apply(policy);
  return rules;
}

absl::Status CheckHealthService(const Fleet::Options& options) {
  if (!options.health_service.has_value()) return absl::OkStatus();
  if (options.pool.exclusive && options.pool.max_connections < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("pool.max_connections is ", options.pool.max_connections,
                     ", with exclusive connections and health_service it must be at least 2: to watch a "
                     "server's health takes one"));
  }
  return HealthWatch::Check(*options.health_service);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Fleet>> Fleet::Create(const Options& options, transport::EventLoop& loop,
                                                     ResolverFactory make_resolver,
                                                     ConnectorFactory make_connector) {
  absl::StatusOr<std::unique_ptr<Balancer>> balancer = Balancer::Create(options.balancing, options.seed);
  absl::Status valid = balancer.status();
  valid.Update(OutlierDetector::Check(options.outliers));
  valid.Update(RetryBudget::Check(options.retry_budget));
  valid.Update(CheckPoolOptions(options.pool, /*of_service=*/true));
  valid.Update(CheckRetryPolicy(options.retry));
  valid.Update(CheckHealthService(options));
  if (!valid.ok()) return valid;
  auto fleet =
      std::shared_ptr<Fleet>(new Fleet(options, loop, *std::move(balancer), std::move(make_connector)));
  loop.Post([fleet, make_resolver = std::move(make_resolver)] { fleet->Begin(make_resolver); });
  return fleet;
}

Fleet::Fleet(const Options& options, transport::EventLoop& loop, std::unique_ptr<Balancer> balancer,
             ConnectorFactory make_connector)
    : options_(options),
      retry_rules_(RulesOf(options.retry)),
      loop_(loop),
      balancer_(std::move(balancer)),
      make_connector_(std::move(make_connector)),
      retry_budget_(options.retry_budget),
      outliers_(options.outliers),
      client_id_(options.client_id.value_or(options.seed != 0 ? options.seed : ThreadRandom())),
      retry_backoff_(retry_rules_.initial_backoff, retry_rules_.max_backoff, options.seed),
      timer_([this] { OnTimer(); }) {}

Fleet::~Fleet() = default;

void Fleet::Begin(const ResolverFactory& make_resolver) {
  if (!closed_.ok()) return;
  absl::StatusOr<std::unique_ptr<Resolver>> resolver = make_resolver(loop_);
  if (!resolver.ok()) return OnServers(resolver.status());
  resolver_ = *std::move(resolver);
  resolver_->Start(*this);
}

// ---------------------------------------------------------------- Any thread

absl::Status Fleet::Route(ClientCall& call, const CallOptions& options) const {
  if (call.routing == nullptr) {
    call.routing = std::make_unique<CallRouting>();
  } else {
    call.routing->Reset();
  }
  call.routing->started = loop_.clock().Now();
  if (const std::string_view key = options.hash_key; !key.empty()) {
    call.routing->hash = HashOf(absl::string_view(key.data(), key.size()));
  }
  call.routing->rules = retry_rules_;
  return ApplyToCall(*call.method, options.retry, call.routing->rules);
}

// A server for a call, and not one of `others_than`; nullptr if there is none.
std::shared_ptr<FleetMember> Fleet::Pick(const CallRouting& routing, Instant now,
                                         absl::Span<const FleetMember* const> others_than) const {
  std::shared_ptr<const Snapshot> shared;
  const Snapshot* snapshot;
  if (loop_.InLoop()) {
    snapshot = loop_snapshot_.get();
  } else {
    transport::MutexLock lock(mutex_);
    shared = snapshot_;
    snapshot = shared.get();
  }
  if (snapshot == nullptr) return nullptr;
  PickArguments arguments{.now = now, .random = ThreadRandom(), .hash_key = routing.hash};
  std::array<size_t, MethodRetry::kMaxAttempts> excluded;
  size_t count = 0;
  for (const FleetMember* other : others_than.first(std::min(others_than.size(), excluded.size()))) {
    const auto found = std::find_if(snapshot->members.begin(), snapshot->members.end(),
                                    [&](const auto& member) { return member.get() == other; });
    if (found != snapshot->members.end()) {
      excluded[count++] = static_cast<size_t>(found - snapshot->members.begin());
    }
  }
  arguments.exclude = absl::MakeConstSpan(excluded.data(), count);
  const std::optional<size_t> picked = snapshot->picker->Pick(arguments);
  return picked.has_value() ? snapshot->members[*picked] : nullptr;
}

// Counts a call on a server that was picked for it; false if that has left the list meanwhile.
bool Fleet::TakeCall(FleetMember& member) const {
  member.load().OnStart();
  if (ABSL_PREDICT_TRUE(!member.retired.load(std::memory_order_seq_cst))) return true;
  member.load().OnAbandoned();
  return false;
}

// On the loop: as Pick, and the call is counted on the server.
std::shared_ptr<FleetMember> Fleet::PickAndTake(const CallRouting& routing, Instant now,
                                                absl::Span<const FleetMember* const> others_than) {
  std::shared_ptr<FleetMember> member = Pick(routing, now, others_than);
  if (member == nullptr || TakeCall(*member)) return member;
  Refresh();
  member = Pick(routing, now, others_than);
  if (member != nullptr) member->load().OnStart();
  return member;
}

// The same for the call's next attempt: another server than the last if there is one.
std::shared_ptr<FleetMember> Fleet::PickNext(const ClientCall& call, Instant now) {
  std::shared_ptr<FleetMember> member;
  if (const FleetMember* const last = call.routing->last_member; last != nullptr) {
    member = PickAndTake(*call.routing, now, absl::MakeConstSpan(&last, 1));
  }
  return member != nullptr ? member : PickAndTake(*call.routing, now, {});
}

// Notes that the call, which is counted there, goes to `member` now.
void Fleet::SetOut(ClientCall& call, std::shared_ptr<FleetMember> member, Instant now) {
  CallRouting& routing = *call.routing;
  if (ABSL_PREDICT_FALSE(routing.parked_bytes > 0)) Unpark(call);
  routing.member = std::move(member);
  routing.sent_at = now;
  if (++routing.attempts > 1) SetAttempt(call, routing.attempts);
  call.execution = Execution::kNotSent;
  call.phase = CallPhase::kQueue;
  call.router = this;
}

void Fleet::Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) {
  calls_.fetch_add(1, std::memory_order_relaxed);
  retry_budget_.OnCall();
  // It was routed just now.
  const Instant now = call.routing->started;
  // The call may end before Start returns, and be the last but this to hold the member. What a hedged one
  // shares belongs to the loop, which therefore starts it.
  const bool hedged = call.routing->rules.hedge();
  if (const std::shared_ptr<FleetMember> member = hedged ? nullptr : Pick(*call.routing, now, {});
      member != nullptr) {
    if (ABSL_PREDICT_TRUE(TakeCall(*member))) {
      SetOut(call, member, now);
      return member->endpoint().Start(call, request, size);
    }
    // The call was counted on it for a moment.
    loop_.Post([self = shared_from_this(), member] { self->CloseIfRetired(*member); });
  }
  const size_t parked = parked_bytes_.fetch_add(size, std::memory_order_relaxed) + size;
  call.routing->parked_bytes = size;
  if (parked > options_.endpoint.max_waiting_bytes && parked > size) {
    calls_.fetch_sub(1, std::memory_order_relaxed);
    return FailLater(call, absl::ResourceExhaustedError(
                               absl::StrCat(parked, " bytes of requests wait for a server of ", options_.name,
                                            ", limit is ", options_.endpoint.max_waiting_bytes)));
  }
  KeepRequest(call, request, size, loop_.blocks().pool());
  loop_.Post([self = shared_from_this(), &call] { self->SendAgain(call, self->WhyNone()); });
}

void Fleet::FailLater(ClientCall& call, absl::Status why) {
  calls_.fetch_add(1, std::memory_order_relaxed);
  loop_.Post([self = shared_from_this(), &call, why = std::move(why)]() mutable {
    self->Finish(call, std::move(why));
  });
}

void Fleet::CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) {
  loop_.Post([self = shared_from_this(), call = std::move(call), why = std::move(why)]() mutable {
    self->CancelCall(*call, std::move(why));
  });
}

// ---------------------------------------------------------------- How calls end, or not yet

void Fleet::CancelCall(ClientCall& call, absl::Status why) {
  loop_.AssertInLoop();
  if (parked_.Take(call)) return Finish(call, std::move(why));
  // It may be on its way back from an endpoint.
  call.routing->cancelled = why;
  if (const std::shared_ptr<HedgedCall> hedged = call.routing->hedged; hedged != nullptr) {
    if (!hedged->outcome.has_value()) Decide(hedged, std::move(why));
    return;
  }
  if (const std::shared_ptr<FleetMember> member = call.routing->member; member != nullptr) {
    member->endpoint().CancelCall(call, std::move(why));
  }
}

void Fleet::OnAttemptEnd(ClientCall& call, absl::Status status) {
  loop_.AssertInLoop();
  CallRouting& routing = *call.routing;
  const std::shared_ptr<FleetMember> member = std::exchange(routing.member, nullptr);
  CountEnd(*member, call, status);
  if (ABSL_PREDICT_FALSE(routing.hedged != nullptr)) return OnHedgedEnd(call, *member, std::move(status));
  if (call.execution != Execution::kNotSent) ++routing.runs;
  if (ABSL_PREDICT_TRUE(status.ok())) return Finish(call, std::move(status));
  Note(routing, routing.sent_at, *member, status);
  OnFailedAttempt(call, *member, std::move(status));
}

// Sends a call again whose last attempt, on `member`, has failed, or ends it.
void Fleet::OnFailedAttempt(ClientCall& call, const FleetMember& member, absl::Status status) {
  if (!MayRepeat(call, status)) return Finish(call, std::move(status));
  call.routing->last_member = &member;
  // What came with the failed attempt is not the next one's.
  if (call.reply_metadata != nullptr) *call.reply_metadata = {};
  absl::Status prepared = PrepareToSendAgain(call, status, loop_.blocks().pool());
  if (!prepared.ok()) return Finish(call, std::move(prepared));
  Repeat(call, status, HasOther(member));
}

// Counts an attempt that has ended for and against its server.
void Fleet::CountEnd(FleetMember& member, const ClientCall& call, const absl::Status& status) {
  const Instant now = loop_.clock().Now();
  const bool failed = IsServersFailure(status, call.execution);
  if (absl::IsCancelled(status) || (!status.ok() && !failed && call.execution == Execution::kNotSent)) {
    member.load().OnAbandoned();
  } else if (const uint32_t failures = member.load().OnEnd(now, call.routing->sent_at, !failed);
             ABSL_PREDICT_FALSE(outliers_.IsDue(failures))) {
    Sweep();
  }
  if (ABSL_PREDICT_FALSE(!sweep_wanted_)) {
    sweep_wanted_ = true;
    ArmTimer();
  }
  if (ABSL_PREDICT_FALSE(member.retired)) CloseIfRetired(member);
}

// Whether an attempt that ended with `status` may be followed by another. Takes a token for it.
bool Fleet::MayRepeat(const ClientCall& call, const absl::Status& status) {
  if (!closed_.ok() || !call.routing->cancelled.ok()) return false;
  if (call.routing->retry_after.value_or(absl::ZeroDuration()) > kMaxRetryAfter) return false;
  const bool unsent = call.execution == Execution::kNotSent;
  const bool refused = unsent && absl::IsResourceExhausted(status) && call.routing->retry_after.has_value();
  if (!absl::IsUnavailable(status) && !refused) return false;
  if (unsent && !refused) return call.wait_for_ready || call.routing->attempts < Endpoint::kMaxTurnedAway;
  if (!unsent && (!call.method->idempotent || call.messages != nullptr)) return false;
  const int counted = unsent ? call.routing->attempts : call.routing->runs;
  return counted < call.routing->rules.max_attempts && retry_budget_.TryWithdraw(loop_.clock().Now());
}

// Another server for the call than the one it was on.
bool Fleet::HasOther(const FleetMember& member) const {
  return std::any_of(order_.begin(), order_.end(), [&](const std::shared_ptr<FleetMember>& other) {
    return other.get() != &member && !other->ejected && other->ready();
  });
}

// Sends the call again: at once if another server may do it, and otherwise after a while, in which this one
// may come back.
void Fleet::Repeat(ClientCall& call, const absl::Status& why, bool other_server) {
  if (call.execution != Execution::kNotSent) retries_.fetch_add(1, std::memory_order_relaxed);
  absl::Duration wait = absl::ZeroDuration();
  if (call.routing->retry_after.has_value()) {
    wait = *std::exchange(call.routing->retry_after, std::nullopt);
  } else if (!other_server) {
    const RetryRules& rules = call.routing->rules;
    wait = retry_backoff_.Wait(call.routing->attempts - 1, rules.initial_backoff, rules.max_backoff);
  }
  if (wait <= absl::ZeroDuration()) return SendAgain(call, why);
  const Instant due = loop_.clock().Now() + wait;
  if (due >= call.deadline) {
    return Finish(call,
                  absl::Status(why.code(), absl::StrCat(why.message(), ", attempt ", call.routing->attempts,
                                                        "; the deadline leaves no time for another")));
  }
  parked_.AddDelayed(call, due);
  ArmTimer();
}

// Sends a call whose request is in its block, or lets it wait for a server.
void Fleet::SendAgain(ClientCall& call, const absl::Status& why) {
  loop_.AssertInLoop();
  if (!closed_.ok()) return Finish(call, closed_);
  if (!call.routing->cancelled.ok()) return Finish(call, call.routing->cancelled);
  const Instant now = loop_.clock().Now();
  if (now >= call.deadline) {
    return Finish(call, absl::DeadlineExceededError(
                            absl::StrCat("the deadline of ", call.method->full_name,
                                         " passed before it could be sent: ", std::string(why.message()))));
  }
  const std::shared_ptr<FleetMember> member = PickNext(call, now);
  if (member == nullptr) return Park(call, why);
  const bool admitted = call.routing->admitted || call.routing->attempts > 0;
  SetOut(call, member, now);
  if (ABSL_PREDICT_FALSE(call.routing->rules.hedge())) BeginHedging(call);
  member->endpoint().StartAgain(call, admitted);
}

void Fleet::Finish(ClientCall& call, absl::Status status) {
  call.router = nullptr;
  if (ABSL_PREDICT_FALSE(call.routing->hedged != nullptr)) LeaveHedged(*call.routing);
  // What a handler has said at the first attempt says it all.
  const bool is_answer = call.execution == Execution::kExecuted && call.routing->attempts == 1;
  if (ABSL_PREDICT_FALSE(!status.ok()) && !is_answer) status = WithFailure(Describe(call), std::move(status));
  call.routing->member = nullptr;
  if (ABSL_PREDICT_FALSE(call.routing->parked_bytes > 0)) Unpark(call);
  calls_.fetch_sub(1, std::memory_order_release);
  call.End(std::move(status));
}

void Fleet::OnTimer() {
  const std::shared_ptr<Fleet> self = shared_from_this();
  const Instant now = loop_.now();
  while (ClientCall* const call = parked_.TakeExpired(now)) {
    Finish(*call, absl::DeadlineExceededError(
                      absl::StrCat("the deadline of ", call->method->full_name,
                                   " passed before it could be sent: ", WhyNone().message())));
  }
  while (ClientCall* const call = parked_.TakeDue(now)) SendAgain(*call, WhyNone());
  if (sweep_wanted_ && outliers_.next_sweep() <= now) Sweep();
  ArmTimer();
}

void Fleet::ArmTimer() {
  if (!closed_.ok()) return;
  Instant due = parked_.next_due();
  if (sweep_wanted_) due = std::min(due, outliers_.next_sweep());
  if (due == Instant::Infinite()) {
    loop_.timers().Cancel(timer_);
  } else {
    loop_.timers().Arm(timer_, due);
  }
}

void Fleet::Close(const absl::Status& why) {
  loop_.AssertInLoop();
  const std::shared_ptr<Fleet> self = shared_from_this();
  if (!closed_.ok()) return;
  closed_ = why;
  resolver_ = nullptr;
  loop_.timers().Cancel(timer_);
  {
    transport::MutexLock lock(mutex_);
    snapshot_ = nullptr;
  }
  loop_snapshot_ = nullptr;
  std::vector<std::shared_ptr<FleetMember>> members = std::move(order_);
  members.insert(members.end(), retired_.begin(), retired_.end());
  order_.clear();
  retired_.clear();
  members_.clear();
  for (const std::shared_ptr<FleetMember>& member : members) {
    member->FollowHealth(/*connected=*/false);
    member->endpoint().Close(why);
  }
  for (ClientCall* call : parked_.TakeAll()) Finish(*call, why);
  // Something of theirs may be on the stack.
  loop_.PostToOwner([members = std::move(members)] {});
}

}  // namespace ferry
