// Calls that end before the server has ended them: at their deadlines, or when nobody wants them any more.
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/client_session.h"
#include "ferry/rpc/unanswered.h"

namespace ferry {

using transport::FrameType;
using transport::StreamId;

void ClientSession::CheckDeadlinesAt(transport::Instant when) {
  if (!loop_.InLoop()) {
    return loop_.Post([self = shared_from_this(), when] { self->CheckDeadlinesAt(when); });
  }
  if (ended_) return;
  if (!deadline_timer_.armed() || when < deadline_timer_.due()) loop_.timers().Arm(deadline_timer_, when);
}

void ClientSession::OnDeadline() {
  const std::shared_ptr<ClientSession> self = shared_from_this();
  for (;;) {
    ClientCall* call;
    transport::Instant wake_at;
    StreamId stream;
    bool sent = false;
    {
      transport::SharedLock lock(mutex_, shared_);
      call = deadlines_.TakeDue(loop_.now());
      wake_at = deadlines_.wake_at();
      if (call != nullptr) {
        stream = call->stream;
        sent = TakeOut(stream, &call);
      }
    }
    if (call == nullptr) {
      if (wake_at != transport::Instant::Infinite()) CheckDeadlinesAt(wake_at);
      return;
    }
    if (sent) SendCancel(stream);
    AfterTakingOut();
    EndUnansweredCall(*call, sent,
                      absl::DeadlineExceededError(
                          absl::StrCat(sent ? "no answer from " : "not sent to ", connection_->peer(),
                                       " before the deadline of ", call->method->full_name)));
  }
}

void ClientSession::Abandon(StreamId stream, absl::Status why) {
  loop_.AssertInLoop();
  ClientCall* call;
  bool sent;
  {
    transport::SharedLock lock(mutex_, shared_);
    sent = TakeOut(stream, &call);
  }
  if (call == nullptr) return;
  if (sent) SendCancel(stream);
  AfterTakingOut();
  EndUnansweredCall(*call, sent, std::move(why));
}

void ClientSession::FailStream(std::shared_ptr<Stream> failed, StreamId stream, absl::Status why) {
  loop_.Post([self = shared_from_this(), failed = std::move(failed), stream, why = std::move(why)]() mutable {
    // A call that was cancelled meanwhile, and not sent, has left its slot's use to the next one.
    bool holds;
    {
      transport::SharedLock lock(self->mutex_, self->shared_);
      const ClientCall* const call = self->table_.Find(stream);
      holds = call != nullptr && call->messages == failed.get();
    }
    if (holds) self->Abandon(stream, std::move(why));
  });
}

// Takes a call that the server has not ended out of all that it is kept in. Whether any of its request was
// sent: then the slot is in use until the server has ended it.
bool ClientSession::TakeOut(StreamId stream, ClientCall** call) {
  *call = table_.Find(stream);
  if (*call == nullptr) return false;
  deadlines_.Remove(**call);
  const bool sent = !sender_.Drop(stream);
  if (sent) {
    table_.Abandon(stream);
  } else {
    table_.Release(stream);
  }
  return sent;
}

void ClientSession::SendCancel(StreamId stream) {
  SendHead({.type = FrameType::kCancel, .stream = stream}, {}, *connection_);
}

// Does what follows when a call was taken out of the sender and perhaps of its slot.
void ClientSession::AfterTakingOut() {
  const bool tell_owner = WithSender([this](MessageSender& sender) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    sender.Pump();
    return std::exchange(wants_slot_, false);
  });
  if (tell_owner) owner_.OnSlotFree();
}

// Ends a call that was taken out, and whose request was given to the connection or not.
void ClientSession::EndUnansweredCall(ClientCall& call, bool sent, absl::Status why) {
  const bool reading = call.reply_fragments.active() || call.answering;
  call.reply_fragments.Reset();
  if (sent) call.execution = Execution::kMaybeExecuted;
  EndUnanswered(call,
                {.phase = reading           ? CallPhase::kReading
                          : !settings_seen_ ? CallPhase::kHandshake
                          : sent            ? CallPhase::kSent
                                            : CallPhase::kQueue,
                 .peer = connection_->peer(),
                 .sent = sent},
                std::move(why));
}

}  // namespace ferry
