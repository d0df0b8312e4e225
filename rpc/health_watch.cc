#include "ferry/rpc/health_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/wire.h"

namespace ferry {

using wire::HealthAnswer;

namespace {

constexpr MethodDescriptor kWatch{.full_name = "grpc.health.v1.Health/Watch",
                                  .id = MethodId("grpc.health.v1.Health/Watch"),
                                  .server_streaming = true};

// There was no room for the watch: of the server's health that says nothing.
bool WasNotLetIn(const ClientStreamCall& call, const absl::Status& how) {
  return call.execution == Execution::kNotSent &&
         (absl::IsUnavailable(how) || absl::IsResourceExhausted(how));
}

}  // namespace

absl::Status HealthWatch::Check(const std::string& service) {
  if (service.size() <= kMaxNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("health_service is ", service.size(), " bytes, limit is ", kMaxNameBytes));
}

HealthWatch::HealthWatch(const Options& options, std::shared_ptr<CallTarget> target,
                         std::function<void()> on_change)
    : options_(options),
      target_(std::move(target)),
      on_change_(std::move(on_change)),
      backoff_(options.min_backoff, options.max_backoff, options.seed),
      timer_([this] { OnTimer(); }) {
  question_.set_service(options.service);
}

void HealthWatch::Start() {
  target_->loop().AssertInLoop();
  if (std::exchange(started_, true)) return;
  failures_ = 0;
  restarts_ = 0;
  Ask();
}

void HealthWatch::Stop() {
  target_->loop().AssertInLoop();
  started_ = false;
  health_ = Health::kUnknown;
  target_->loop().timers().Cancel(timer_);
  ++watch_;
  if (const std::shared_ptr<ClientStreamCall> call = std::move(call_); call != nullptr) {
    call->Fail(absl::CancelledError("the server's health is of no interest any more"));
  }
}

void HealthWatch::Ask() {
  transport::EventLoop& loop = target_->loop();
  const WireSettings& settings = target_->settings();
  const auto call =
      std::make_shared<ClientStreamCall>(loop, nullptr, settings.initial_stream_window, settings.max_message);
  call->KeepUntilComplete();
  call->cancel_waiting = [target = std::weak_ptr<CallTarget>(target_)](
                             std::shared_ptr<ClientStreamCall> waiting, absl::Status why) {
    if (const auto open = target.lock()) open->CancelLater(std::move(waiting), std::move(why));
  };
  call->method = &kWatch;
  call->deadline = transport::Instant::Infinite();
  call_ = call;
  ++watch_;
  answered_ = false;
  asked_at_ = loop.clock().Now();
  loop.timers().Arm(timer_, asked_at_ + options_.answer_time);
  target_->Start(*call, question_, question_.ByteSizeLong());
  AwaitNews();
}

// Has the loop tell `event` of the watch under way.
Stream::Waiter HealthWatch::Tell(void (HealthWatch::*event)(uint64_t watch)) {
  return [&loop = target_->loop(), weak = weak_from_this(), event, watch = watch_] {
    loop.Post([weak, event, watch] {
      if (const std::shared_ptr<HealthWatch> self = weak.lock()) (self.get()->*event)(watch);
    });
  };
}

void HealthWatch::AwaitNews() {
  Stream::Waiter waiter = Tell(&HealthWatch::OnNews);
  if (!call_->WhenReadable(waiter)) waiter();
}

void HealthWatch::OnNews(uint64_t watch) {
  while (watch == watch_ && call_ != nullptr) {
    HealthAnswer answer;
    switch (call_->TryRead(answer)) {
      case MessageQueue::Taken::kMessage:
        OnAnswer(answer.status());
        break;
      case MessageQueue::Taken::kNothing:
        return AwaitNews();
      case MessageQueue::Taken::kEnd:
        return AwaitEnd();
    }
  }
}

void HealthWatch::OnAnswer(HealthAnswer::Status status) {
  if (!std::exchange(answered_, true)) {
    transport::EventLoop& loop = target_->loop();
    loop.timers().Cancel(timer_);
    if (options_.renew_after < absl::InfiniteDuration())
      loop.timers().Arm(timer_, asked_at_ + options_.renew_after);
  }
  failures_ = 0;
  const std::string& name = HealthAnswer::Status_Name(status);
  last_word_ = absl::StrCat("its health is ", name.empty() ? absl::StrCat(static_cast<int>(status)) : name);
  Set(status == HealthAnswer::SERVING ? Health::kServing : Health::kNotServing);
}

// There are no more answers; how the call has ended may be told a little later.
void HealthWatch::AwaitEnd() {
  Stream::Waiter waiter = Tell(&HealthWatch::OnEnd);
  if (!call_->WhenEnded(waiter)) waiter();
}

void HealthWatch::OnEnd(uint64_t watch) {
  if (watch != watch_ || call_ == nullptr) return;
  const std::shared_ptr<ClientStreamCall> call = std::move(call_);
  const absl::Status how = call->end_status();
  if (absl::IsUnimplemented(how)) {
    target_->loop().timers().Cancel(timer_);
    last_word_ = "it has no health service";
    return Set(Health::kServing);
  }
  if (WasNotLetIn(*call, how)) return AskLater();
  OnFailed(how);
}

void HealthWatch::OnTimer() {
  const std::shared_ptr<HealthWatch> self = shared_from_this();
  if (call_ == nullptr) return Ask();
  const std::shared_ptr<ClientStreamCall> call = std::move(call_);
  if (answered_) {
    call->Fail(absl::CancelledError("the watch is begun anew"));
    return Ask();
  }
  const bool sent = call->stream != transport::kConnectionStream;
  call->Fail(absl::CancelledError("the server does not say how its health is"));
  // One that still waits for room on the connection says nothing of the server.
  if (!sent) return AskLater();
  OnFailed(absl::DeadlineExceededError(
      absl::StrCat("no answer for ", absl::FormatDuration(options_.answer_time))));
}

void HealthWatch::OnFailed(const absl::Status& why) {
  AskLater();
  if (answered_ || ++failures_ < kMaxFailures) return;
  last_word_ = absl::StrCat("it does not tell its health: ",
                            why.ok() ? "its watch ends without an answer" : why.message());
  Set(Health::kNotServing);
}

void HealthWatch::AskLater() {
  const transport::Instant now = target_->loop().clock().Now();
  if (now - asked_at_ >= options_.max_backoff) restarts_ = 0;
  target_->loop().timers().Arm(timer_, now + backoff_.Wait(restarts_++));
}

void HealthWatch::Set(Health health) {
  if (std::exchange(health_, health) != health) on_change_();
}

}  // namespace ferry
