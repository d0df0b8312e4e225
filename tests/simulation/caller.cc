#include "tests/simulation/caller.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_cancellation.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"

namespace ferry::simulation {
namespace {

constexpr MethodDescriptor Method(const char* full_name, bool client_streaming, bool server_streaming,
                                  bool idempotent = false) {
  return {.full_name = full_name,
          .id = MethodId(full_name),
          .idempotent = idempotent,
          .client_streaming = client_streaming,
          .server_streaming = server_streaming};
}

constexpr MethodDescriptor kQuick = Method("ferry.simulation.Simulated/Quick", false, false);
constexpr MethodDescriptor kSlow = Method("ferry.simulation.Simulated/Slow", false, false);
// As another version of the .proto would have them.
constexpr MethodDescriptor kQuickIdempotent = Method("ferry.simulation.Simulated/Quick", false, false, true);
constexpr MethodDescriptor kSlowIdempotent = Method("ferry.simulation.Simulated/Slow", false, false, true);
constexpr MethodDescriptor kUpload = Method("ferry.simulation.Simulated/Upload", true, false);
constexpr MethodDescriptor kWatch = Method("ferry.simulation.Simulated/Watch", false, true);
constexpr MethodDescriptor kTalk = Method("ferry.simulation.Simulated/Talk", true, true);

const MethodDescriptor& UnaryMethod(const CallPlan& plan) {
  if (plan.idempotent) return plan.on_executor ? kSlowIdempotent : kQuickIdempotent;
  return plan.on_executor ? kSlow : kQuick;
}

const MethodDescriptor& StreamMethod(CallKind kind) {
  return kind == CallKind::kUpload ? kUpload : kind == CallKind::kWatch ? kWatch : kTalk;
}

Message Request(CallRecord& record, size_t size) {
  Message request;
  request.set_call(record.id);
  request.set_payload(Payload(record.id, false, 0, size));
  record.request_digest = Digest(request.payload());
  return request;
}

}  // namespace

Caller::Caller(const Endpoint::Options& options, transport::EventLoop& loop, Network& network, Ledger& ledger)
    : loop_(loop), ledger_(ledger), shared_(std::make_shared<Shared>(loop)) {
  Open(Endpoint::Create(Own(options), loop, network.NewConnector(0)));
}

Caller::Caller(const Fleet::Options& options, transport::EventLoop& loop, Network& network, Ledger& ledger,
               ServiceNames& names)
    : loop_(loop), ledger_(ledger), shared_(std::make_shared<Shared>(loop)) {
  Fleet::Options own = options;
  own.endpoint = Own(options.endpoint);
  std::shared_ptr<Fleet> fleet =
      Fleet::Create(own, loop, names.NewResolver(), ServiceNames::NewConnector(network)).value();
  fleet_ = fleet.get();
  Open(std::move(fleet));
}

Endpoint::Options Caller::Own(Endpoint::Options options) const {
  options.keep_alive = shared_;
  options.session.keep_alive = loops_;
  return options;
}

void Caller::Open(std::shared_ptr<CallTarget> target) {
  target_ = std::move(target);
  weak_target_ = target_;
  weak_shared_ = shared_;
  weak_loops_ = loops_;
}

CallRecord& Caller::Begin(CallKind kind, const CallPlan& plan) {
  CallRecord& record = ledger_.Begin(kind, loop_.clock().Now() + plan.timeout);
  records_.push_back(&record);
  return record;
}

void Caller::StartUnary(const CallPlan& plan) {
  CallRecord& record = Begin(CallKind::kUnary, plan);
  record.asked_for_status = true;
  record.idempotent = plan.idempotent;
  const Message request = Request(record, plan.request_size);
  ClientCall& call = shared_->calls.Take(
      [this, &record, plan](const absl::StatusOr<Message>& reply) { OnUnaryEnd(record, plan, reply); });
  Start(UnaryMethod(plan), request, plan, record, call);
}

void Caller::OnUnaryEnd(CallRecord& record, CallPlan plan, const absl::StatusOr<Message>& reply) {
  ledger_.OnEnd(record, reply.status(), reply.ok() ? &*reply : nullptr);
  if (!is_open()) return;
  if (plan.followers-- > 0) StartUnary(plan);
  if (plan.close_at_end) Close();
}

void Caller::StartStream(CallKind kind, const CallPlan& plan) {
  CallRecord& record = Begin(kind, plan);
  const WireSettings& settings = target_->settings();
  auto call =
      std::make_shared<ClientStreamCall>(loop_, loops_, settings.initial_stream_window, settings.max_message);
  call->KeepUntilComplete();
  call->cancel_waiting = [target = weak_target_](std::shared_ptr<ClientStreamCall> waiting,
                                                 absl::Status why) {
    if (const std::shared_ptr<CallTarget> open = target.lock()) {
      open->CancelLater(std::move(waiting), std::move(why));
    }
  };
  stream_calls_.push_back(call);
  const Message request = kind == CallKind::kWatch ? Request(record, plan.request_size) : Message();
  CallPlan with_metadata = plan;
  with_metadata.with_metadata = true;
  Start(StreamMethod(kind), request, with_metadata, record, *call);
  streams_.push_back(std::make_shared<CallerStream>(ledger_, record, plan.habits, call));
  all_streams_.push_back(streams_.back());
}

// As Channel::Start.
void Caller::Start(const MethodDescriptor& method, const Message& request, const CallPlan& plan,
                   CallRecord& record, ClientCall& call) {
  call.method = &method;
  call.execution = Execution::kNotSent;
  call.turned_away = 0;
  call.wait_for_ready = plan.wait_for_ready;
  call.reply_metadata = nullptr;
  call.deadline = record.deadline;
  call.head.clear();
  const size_t size = request.ByteSizeLong();
  if (fleet_ != nullptr) {
    const std::string key = absl::StrCat(record.id % 5);
    CallOptions options;
    options.hash_key = key;
    if (absl::Status routed = fleet_->Route(call, options); !routed.ok()) {
      return target_->FailLater(call, std::move(routed));
    }
  }
  Metadata metadata;
  if (plan.with_metadata) metadata.Add("call", absl::StrCat(record.id));
  if (plan.with_metadata || size > kMaxFragment) {
    const bool needs_length = NeedsLength(size, plan.with_metadata);
    call.head = EncodeRequestHead(metadata, needs_length ? size : 0, 16 * 1024).value();
  }
  const std::shared_ptr<CallTarget> target = target_;
  if (!plan.cancellable) return target->Start(call, request, size);
  auto cancellation = std::make_shared<CallCancellation>(call, loop_, *target);
  call.cancellation = cancellation;
  stops_.push_back({.record = &record});
  cancellation->Watch(stops_.back().source.get_token(), {});
  target->Start(call, request, size);
  cancellation->Started();
}

bool Caller::CancelUnary(uint64_t choice) {
  std::erase_if(stops_, [](const Stop& stop) { return stop.record->ends > 0; });
  if (stops_.empty() || !is_open()) return false;
  Stop& stop = stops_[choice % stops_.size()];
  stop.record->cancelled = true;
  stop.source.request_stop();
  return true;
}

void Caller::Close() {
  for (CallRecord* record : records_) record->cancelled = true;
  std::shared_ptr<CallTarget> target = std::move(target_);
  shared_ = nullptr;
  loops_ = nullptr;
  const absl::Status why = absl::CancelledError("the channel was destroyed");
  // As ~Channel, on the loop's thread and on another.
  if (loop_.InLoop()) {
    target->Close(why);
    loop_.PostToOwner([target = std::move(target)] {});
  } else {
    loop_.PostToOwner([target = std::move(target), why] { target->Close(why); });
  }
}

const std::vector<std::shared_ptr<CallerStream>>& Caller::streams() {
  std::erase_if(streams_, [](const std::shared_ptr<CallerStream>& stream) { return stream->done(); });
  return streams_;
}

void Caller::CheckNothingHeld() {
  for (const auto& stream : streams()) {
    ledger_.Complain(absl::StrCat("the callbacks of call ", stream->record().id, " are not run"));
  }
  for (const auto& stream : all_streams_) {
    if (!stream.expired()) ledger_.Complain("a callback of a client's stream is kept");
  }
  for (const auto& call : stream_calls_) {
    if (!call.expired()) ledger_.Complain("a client's stream is kept");
  }
  if (!weak_target_.expired()) ledger_.Complain("an endpoint or a fleet is kept");
  if (!weak_shared_.expired()) ledger_.Complain("what an endpoint keeps alive is kept");
  if (!weak_loops_.expired()) ledger_.Complain("a client's session or stream is kept");
}

}  // namespace ferry::simulation
