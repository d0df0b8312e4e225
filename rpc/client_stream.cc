#include "ferry/rpc/client_stream.h"

#include <memory>
#include <utility>

#include "ferry/rpc/wait_point.h"

namespace ferry {

using transport::MutexLock;

ClientStreamCall::ClientStreamCall(transport::EventLoop& loop, std::shared_ptr<void> keep_alive,
                                   uint32_t window, uint64_t max_message)
    : Stream(loop, window, max_message), keep_alive_(std::move(keep_alive)) {
  messages = this;
}

// The message of a RESPONSE: the only reply, or none after a stream of them.
bool ClientStreamCall::ParseReply(absl::string_view bytes) {
  if (method->server_streaming) return bytes.empty() && !queue().in_message();
  reply_ = std::string(bytes);
  return true;
}

void ClientStreamCall::Complete(absl::Status status) {
  const std::shared_ptr<ClientStreamCall> self = std::move(self_);
  // First: from here on nothing fails the call any more.
  Stream::End();
  Waiter waiter;
  {
    MutexLock lock(end_mutex_);
    has_ended_ = true;
    end_status_ = std::move(status);
    waiter = std::exchange(end_waiter_, nullptr);
  }
  if (waiter != nullptr) waiter();
}

void ClientStreamCall::FailUnopened(const absl::Status& why) {
  if (cancel_waiting != nullptr) {
    cancel_waiting(std::static_pointer_cast<ClientStreamCall>(shared_from_this()), why);
  }
}

absl::Status ClientStreamCall::WaitForEnd() {
  WaitPoint point;
  Waiter waiter = point.waiter();
  if (WhenEnded(waiter)) point.Wait();
  return end_status();
}

bool ClientStreamCall::WhenEnded(Waiter& waiter) {
  if (forked()) return false;
  MutexLock lock(end_mutex_);
  if (has_ended_) return false;
  end_waiter_ = std::move(waiter);
  return true;
}

absl::Status ClientStreamCall::end_status() {
  // The reader was told of an end then, perhaps before the last reply: it must not take what the server has
  // said meanwhile for the end of the whole.
  if (absl::Status failed = failure(); !failed.ok()) return failed;
  MutexLock lock(end_mutex_);
  return end_status_;
}

// ---------------------------------------------------------------- Handles

void ClientStreamHandle::Cancel() {
  if (call_ != nullptr) call_->Fail(absl::CancelledError("the caller cancelled the call"));
}

void ClientStreamHandle::LetGo() {
  if (call_ != nullptr && call_->forked()) {
    // Stays for ever: its end may be that of its session, whose sockets are shared with the other process.
    static_cast<void>(std::make_unique<std::shared_ptr<ClientStreamCall>>(std::move(call_)).release());
  }
  Cancel();
}

absl::Status ClientStreamHandle::WaitForEnd() const {
  call_->StopReading();
  if (!call_->forked() && transport::EventLoop::InAnyLoop()) {
    absl::Status status = Stream::WouldStopTheLoop();
    call_->Fail(status);
    return status;
  }
  return call_->WaitForEnd();
}

void ClientStreamHandle::WhenEnded(StatusCallback done) const {
  call_->StopReading();
  Stream::Waiter waiter = call_->Posting(
      [call = call_, done = std::move(done)]() mutable { std::move(done)(call->end_status()); });
  if (!call_->WhenEnded(waiter)) waiter();
}

bool ClientStreamHandle::EndAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  call_->StopReading();
  Stream::Waiter waiter = call_->Posting([this] { resumption_.Resume(); });
  if (!call_->WhenEnded(waiter)) waiter();
  return resumption_.Suspend(coroutine);
}

}  // namespace ferry
