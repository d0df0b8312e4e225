#include "tests/simulation/ledger.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_failure.h"
#include "tests/simulation/dice.h"

namespace ferry::simulation {
namespace {

// After so many it is clear that something is wrong.
constexpr size_t kMaxComplaints = 20;

// Of a call of an idempotent method over one connection after the other, and over a fleet: more than either
// sends it, before a server's settings have come and after.
constexpr int kMaxExecutions = 8;

}  // namespace

absl::string_view CallKindName(CallKind kind) {
  switch (kind) {
    case CallKind::kUnary:
      return "unary";
    case CallKind::kUpload:
      return "upload";
    case CallKind::kWatch:
      return "watch";
    case CallKind::kTalk:
      return "talk";
  }
  return "?";
}

std::string Payload(uint64_t call, bool reply, uint64_t index, size_t size) {
  uint64_t word = Scatter((call << 20) ^ (index << 1) ^ (reply ? 1 : 0));
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; i += sizeof word, word += 0x9e3779b97f4a7c15) {
    std::memcpy(&bytes[i], &word, std::min(sizeof word, size - i));
  }
  return bytes;
}

uint64_t Digest(absl::string_view bytes) {
  uint64_t digest = Scatter(bytes.size());
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t size = std::min(sizeof word, bytes.size());
    std::memcpy(&word, bytes.data(), size);
    digest = (digest ^ word) * 0x100000001b3 + (digest >> 47);
    bytes.remove_prefix(size);
  }
  return digest;
}

CallRecord& Ledger::Begin(CallKind kind, transport::Instant deadline) {
  CallRecord& call = calls_.emplace_back();
  call.id = calls_.size();
  call.kind = kind;
  call.deadline = deadline;
  open_.push_back(&call);
  Trace(call, "is started");
  return call;
}

CallRecord* Ledger::Find(uint64_t id) {
  if (id >= 1 && id <= calls_.size()) return &calls_[id - 1];
  Complain(absl::StrCat("there is no call ", id));
  return nullptr;
}

// ---------------------------------------------------------------- The server's side

void Ledger::OnExecuted(CallRecord& call) {
  Trace(call, "is executed");
  if (++call.executions > (call.idempotent ? kMaxExecutions : 1)) {
    ComplainOf(call, absl::StrCat("is executed ", call.executions, " times"));
  }
  if (call.not_sent) ComplainOf(call, "is executed, and its caller was told that it never will be");
}

void Ledger::OnRequest(CallRecord& call, const Message& request) {
  if (request.call() != call.id || request.index() != call.requests_read ||
      request.payload() != Payload(call.id, false, request.index(), request.payload().size())) {
    ComplainOf(call, absl::StrCat("has request ", request.index(), " of call ", request.call(),
                                  " as the next after ", call.requests_read));
  }
  if (++call.requests_read > call.requests_written) {
    ComplainOf(call, absl::StrCat("has ", call.requests_read, " requests, but ", call.requests_written,
                                  " were written"));
  }
}

void Ledger::OnRequestsEnd(CallRecord& call, bool cancelled) {
  call.requests_read_to_end = true;
  // A message beyond a limit fails the call, which ends what its handler reads.
  if (cancelled || excuses.limits) return;
  if (!call.requests_ended || call.requests_read != call.requests_written) {
    ComplainOf(call, absl::StrCat("has ended its requests for the handler after ", call.requests_read, " of ",
                                  call.requests_written));
  }
}

void Ledger::OnCancelled(const CallRecord& call) {
  if (call.cancelled || excuses.connections || clock_.Now() >= call.deadline) return;
  // Another server was quicker.
  if (call.idempotent && excuses.hedges) return;
  ComplainOf(call, "is cancelled for its handler without a reason");
}

void Ledger::OnAnswer(CallRecord& call, const absl::Status& answer) {
  call.answers.push_back(answer);
  if (call.answers.size() > static_cast<size_t>(call.executions)) {
    ComplainOf(call, "is answered twice: the simulation is wrong");
  }
  Trace(call, absl::StrCat("is answered with ", answer.ToString()));
}

// ---------------------------------------------------------------- The client's side

void Ledger::OnReply(CallRecord& call, const Message& reply) {
  if (reply.call() != call.id || reply.index() != call.replies_read ||
      reply.payload() != Payload(call.id, true, reply.index(), reply.payload().size())) {
    ComplainOf(call, absl::StrCat("has reply ", reply.index(), " of call ", reply.call(),
                                  " as the next after ", call.replies_read));
  }
  if (++call.replies_read > call.replies_written) {
    ComplainOf(call,
               absl::StrCat("has ", call.replies_read, " replies of ", call.replies_written, " written"));
  }
}

void Ledger::OnRepliesEnd(CallRecord& call) { call.replies_read_to_end = true; }

void Ledger::OnEnd(CallRecord& call, const absl::Status& status, const Message* reply) {
  Trace(call, absl::StrCat("ends with ", status.ToString()));
  if (++call.ends > 1) {
    ComplainOf(call, absl::StrCat("ends ", call.ends, " times, now with ", status.ToString()));
    return;
  }
  call.status = status;
  std::erase(open_, &call);
  const std::optional<CallFailure> failure = FailureOf(status);
  call.not_sent = failure.has_value() && failure->execution() == CallFailure::NOT_SENT;
  if (call.not_sent && call.executions > 0) ComplainOf(call, "is said to be not sent, and was executed");
  if (status.ok()) return CheckOk(call, reply);
  if (!IsExplained(call, status)) {
    ComplainOf(call, absl::StrCat("ends without a reason with ", status.ToString()));
  }
}

// Whether a handler has said so.
bool Ledger::IsAnswer(const CallRecord& call, const absl::Status& status) {
  return std::any_of(call.answers.begin(), call.answers.end(), [&](const absl::Status& answer) {
    return answer.code() == status.code() && answer.message() == status.message();
  });
}

// Whether `status`, which is not OK, may be how the call ends.
bool Ledger::IsExplained(const CallRecord& call, const absl::Status& status) const {
  if (IsAnswer(call, status)) return true;
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return clock_.Now() >= call.deadline;
    case absl::StatusCode::kCancelled:
      return call.cancelled || excuses.connections;
    case absl::StatusCode::kUnavailable:
      // Or a handler was not able to, and nobody else was asked for a reason that is added to its text.
      return excuses.connections || excuses.names ||
             std::any_of(call.answers.begin(), call.answers.end(), absl::IsUnavailable);
    case absl::StatusCode::kResourceExhausted:
      return excuses.limits;
    default:
      return false;
  }
}

void Ledger::CheckOk(const CallRecord& call, const Message* reply) {
  if (!IsAnswer(call, absl::OkStatus())) {
    return ComplainOf(call, "ends with OK, which its handler has not said");
  }
  if (call.replies_read_to_end && call.replies_read != call.replies_written) {
    ComplainOf(call, absl::StrCat("ends with OK after ", call.replies_read, " of ", call.replies_written,
                                  " replies"));
  }
  if (call.kind != CallKind::kUnary && call.kind != CallKind::kUpload) return;
  if (reply == nullptr) return ComplainOf(call, "ends with OK and no reply");
  const uint64_t digest = call.kind == CallKind::kUnary ? call.request_digest : call.requests_read;
  if (reply->call() != call.id || reply->digest() != digest ||
      reply->payload() != Payload(call.id, true, 0, reply->payload().size())) {
    ComplainOf(call, absl::StrCat("has a wrong reply, of call ", reply->call(), " with digest ",
                                  reply->digest(), " instead of ", digest));
  }
}

// ---------------------------------------------------------------- What must be true

void Ledger::CheckPunctual() {
  for (const CallRecord* call : open_) {
    if (!call->asked_for_status) continue;
    if (call->cancelled) ComplainOf(*call, "is cancelled and does not end");
    if (clock_.Now() >= call->deadline) ComplainOf(*call, "does not end when its time is over");
  }
}

void Ledger::CheckAllEnded() {
  for (const CallRecord* call : open_) {
    if (call->asked_for_status) ComplainOf(*call, "does not end");
  }
  for (const CallRecord& call : calls_) {
    if (static_cast<size_t>(call.executions) != call.answers.size())
      ComplainOf(call, "is executed and not answered");
  }
}

bool Ledger::all_ended() const {
  return std::none_of(open_.begin(), open_.end(),
                      [](const CallRecord* call) { return call->asked_for_status; });
}

void Ledger::ComplainOf(const CallRecord& call, absl::string_view what) {
  Complain(absl::StrCat(CallKindName(call.kind), " call ", call.id, " ", what));
}

void Ledger::Trace(const CallRecord& call, absl::string_view what) {
  if (trace_ != nullptr)
    *trace_ << "    " << CallKindName(call.kind) << " call " << call.id << " " << what << "\n";
}

void Ledger::Complain(std::string what) {
  if (complaints_.size() < kMaxComplaints) complaints_.push_back(std::move(what));
}

}  // namespace ferry::simulation
