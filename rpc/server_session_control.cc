// Frames other than requests, requests that cannot be served, and how the session ends.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/server_session.h"

namespace ferry {

using transport::Frame;
using transport::FrameType;
using transport::StreamId;

namespace {

// A connection that is new is watched in one round of the loop, and read in the next.
constexpr int kRoundsToRead = 2;

// What the handler has begun with the same deadline sees it itself, before the handler is cancelled.
constexpr absl::Duration kDeadlineGrace = absl::Milliseconds(1);

// Deadlines that come closely one after the other are looked for together, for each look is at all calls.
constexpr absl::Duration kDeadlineRest = absl::Milliseconds(9);

}  // namespace

void ServerSession::OnOtherFrame(const Frame& frame) {
  if (absl::Status use = CheckFrameUse(frame.header, Side::kClient); !use.ok()) return Break(use);
  if (!settings_seen_ && frame.header.type != FrameType::kSettings) {
    return Break(absl::InternalError(absl::StrCat(
        "first frame is ", transport::FrameTypeName(frame.header.type), ", it must be SETTINGS")));
  }
  if (IsCounted(frame.header)) received_ += WindowCost(frame.header);
  if (received_ >= shared_->settings.initial_connection_window / 2) {
    Grant(transport::kConnectionStream, std::exchange(received_, 0));
  }
  switch (frame.header.type) {
    case FrameType::kRequest:
      return OnRequest(frame);
    case FrameType::kMessage:
      return OnMessage(frame);
    case FrameType::kCancel:
      if (!IsFlood()) OnCancel(frame);
      return;
    case FrameType::kSettings:
      return OnSettings(frame);
    case FrameType::kPing:
      if (!IsFlood()) AnswerPing(frame, *connection_);
      return;
    case FrameType::kStatus: {
      absl::StatusOr<WireStatus> why = DecodeStatusHead(frame.head());
      return Close(absl::UnavailableError(absl::StrCat("the client ended the connection: ",
                                                       (why.ok() ? why->status : why.status()).ToString())));
    }
    case FrameType::kDrain:
      return OnDrain(frame);
    case FrameType::kWindow:
      if (!IsFlood()) OnWindow(frame);
      return;
    case FrameType::kResponse:
      return;  // CheckFrameUse has refused it
  }
}

// Counts a frame that no window and no slot bounds; breaks the connection if it is one too many.
bool ServerSession::IsFlood() {
  const absl::Status counted = flood_guard_.Count(loop_.now());
  if (!counted.ok()) Break(counted);
  return !counted.ok();
}

void ServerSession::OnSettings(const Frame& frame) {
  absl::StatusOr<WireSettings> settings = DecodeSettings(frame.head());
  if (!settings.ok()) return Break(settings.status());
  if (std::exchange(settings_seen_, true)) return Break(absl::InternalError("SETTINGS frame came twice"));
  output_.SetPeer(*settings);
}

void ServerSession::BreakForSlotInUse(StreamId stream) {
  Break(absl::InternalError(absl::StrCat("REQUEST frame is on slot ", stream.slot(), ", which is in use")));
}

// Breaks the connection if the request breaks the protocol, and refuses it otherwise.
void ServerSession::OnInadmissible(const Frame& frame) {
  const StreamId stream = frame.header.stream;
  if (absl::Status slot = CheckSlot(stream); !slot.ok()) return Break(slot);
  // Beyond our limit it is refused, and remembered nowhere.
  if (stream.slot() < shared_->settings.max_streams && FreeSlot(stream) == nullptr) return;
  // What is beyond the last_ordinal of our DRAIN is not answered.
  if (!draining_ && !IsFlood()) output_.Refuse(frame.header, WhyInadmissible(frame));
}

// An error if a REQUEST may not be on `stream`.
absl::Status ServerSession::CheckSlot(StreamId stream) const {
  if (absl::Status range = CheckInRange(stream); !range.ok()) return range;
  if (drained_) return absl::InternalError("REQUEST frame came after DRAIN");
  return absl::OkStatus();
}

// An error if no client may use the slot, whatever settings of ours it has read (PROTOCOL.md [P9.5]).
absl::Status ServerSession::CheckInRange(StreamId stream) const {
  const uint32_t slots = std::max(WireSettings().max_streams, shared_->settings.max_streams);
  if (stream.slot() < slots) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("stream slot is ", stream.slot(), ", limit is ", slots - 1));
}

absl::Status ServerSession::WhyInadmissible(const Frame& frame) const {
  if (frame.header.stream.slot() >= shared_->settings.max_streams) {
    return absl::ResourceExhaustedError(absl::StrCat("stream slot is ", frame.header.stream.slot(),
                                                     ", limit is ", shared_->settings.max_streams - 1));
  }
  if (frame.header.message_size() > shared_->settings.max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", frame.header.message_size(),
                                                     " bytes, limit is ", shared_->settings.max_message));
  }
  if (output_.waiting_bytes() > shared_->max_reply_bytes_per_connection) {
    return absl::ResourceExhaustedError(absl::StrCat(
        output_.waiting_bytes(), " bytes of replies wait for the client to accept them, limit is ",
        shared_->max_reply_bytes_per_connection));
  }
  const uint64_t id = DecodeRequestPrefix(frame.body.data()).method;
  const ServedMethod* method = shared_->methods.Find(id);
  if (method != nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("method ", method->name(), " takes ",
                     method->takes_stream ? "a stream of requests, not one" : "one request, not a stream"));
  }
  return absl::UnimplementedError(absl::StrCat("no method has id 0x", absl::Hex(id, absl::kZeroPad16)));
}

// Whether a frame other than REQUEST is on a slot that had one; breaks the connection if it may not be where
// it is.
bool ServerSession::IsForCall(const Frame& frame) {
  const uint32_t slot = frame.header.stream.slot();
  absl::Status valid = CheckInRange(frame.header.stream);
  if (valid.ok()) {
    // The REQUEST was refused: the client may not have known our limit (PROTOCOL.md [P9.6]).
    if (slot >= shared_->settings.max_streams) return false;
    if (slots_.used(slot)) return true;
    valid = absl::InternalError(absl::StrCat(transport::FrameTypeName(frame.header.type),
                                             " frame is on slot ", slot, ", which was never used"));
  }
  Break(valid);
  return false;
}

void ServerSession::OnMessage(const Frame& frame) {
  if (!IsForCall(frame)) return;
  ServerSlot& slot = slots_[frame.header.stream.slot()];
  ServerCall* call = slot.call.load(std::memory_order_acquire);
  // A late frame of a call that has ended.
  if (call == nullptr || slot.stream != frame.header.stream) return;
  if (!slot.arriving) {
    return Break(absl::InternalError(
        absl::StrCat("MESSAGE frame is on slot ", frame.header.stream.slot(),
                     slot.messages == nullptr ? ", whose request is whole" : ", whose stream has ended")));
  }
  if (slot.messages != nullptr && call->method->takes_stream) return OnStreamed(frame, slot);
  OnFragment(frame, slot, *call);
}

// A further part of a call's only request.
void ServerSession::OnFragment(const Frame& frame, ServerSlot& slot, ServerCall& call) {
  const bool last = !frame.header.has(transport::kMore);
  absl::Status status = call.request_fragments.Append(frame.message());
  if (status.ok() && last && !call.request_fragments.whole()) status = call.request_fragments.TooShort();
  if (!status.ok()) {
    call.not_executed = true;
    slot.arriving = false;
    return call.End(std::move(status));
  }
  if (last) return Admit(call);
  const size_t credit = call.request_fragments.TakeCredit(WindowCost(frame.header),
                                                          shared_->settings.initial_stream_window / 2);
  if (credit > 0) Grant(frame.header.stream, credit);
}

// A part of a stream of requests.
void ServerSession::OnStreamed(const Frame& frame, ServerSlot& slot) {
  Stream& messages = *slot.messages;
  const bool end = frame.header.has(transport::kEndStream);
  const bool only_ends = end && frame.message().empty() && !messages.queue().in_message();
  size_t credit = 0;
  absl::Status status;
  if (!only_ends) {
    status = AppendStreamed(frame, messages.queue(), output_.counting(),
                            {shared_from_this(), &request_budget_}, &credit);
    if (messages.queue().overflowed() && output_.counting()) {
      return Break(absl::ResourceExhaustedError(
          absl::StrCat("slot ", frame.header.stream.slot(), " has received more than its window of ",
                       shared_->settings.initial_stream_window, " bytes")));
    }
  }
  if (!status.ok()) messages.Fail(std::move(status));
  if (credit > 0) Grant(frame.header.stream, credit);
  if (!end) return;
  slot.arriving = false;
  messages.queue().End();
}

void ServerSession::Grant(StreamId stream, size_t bytes) {
  if (output_.counting()) SendWindow(stream, bytes, *connection_);
}

void ServerSession::OnWindow(const Frame& frame) {
  absl::StatusOr<uint32_t> increment = DecodeWindowHead(frame.head());
  if (!increment.ok()) return Break(increment.status());
  if (!output_.counting()) return;
  const StreamId stream = frame.header.stream;
  if (stream != transport::kConnectionStream && !IsForCall(frame)) return;
  if (absl::Status enlarged = output_.Enlarge(stream, *increment); !enlarged.ok()) return Break(enlarged);
  if (last_calls_) CloseIfDone();
}

void ServerSession::OnRoom() {
  output_.Pump();
  if (last_calls_) CloseIfDone();
}

void ServerSession::OnCancel(const Frame& frame) {
  if (!IsForCall(frame)) return;
  ServerSlot& slot = slots_[frame.header.stream.slot()];
  if (slot.stream != frame.header.stream) return;
  ServerCall* call = slot.call.load(std::memory_order_acquire);
  if (call == nullptr) {
    output_.CancelAnswer(slot.stream);
    if (last_calls_) CloseIfDone();
    return;
  }
  const bool begun = !slot.arriving || call->method->takes_stream;
  // It may be ending just now on another thread, but is no other call yet. If it has looked before whether it
  // is cancelled, its answer is stopped on the way.
  Cancel(slot, *call);
  output_.CancelAnswer(frame.header.stream);
  if (begun) return;
  call->not_executed = true;
  slot.arriving = false;
  call->End(absl::CancelledError("the client cancelled the call"));
}

// Tells the handler that nobody waits for its answer.
void ServerSession::Cancel(ServerSlot& slot, ServerCall& call) {
  call.context().Cancel();
  if (slot.messages != nullptr) slot.messages->End();
}

void ServerSession::WatchDeadline(transport::Instant due) {
  if (!loop_.InLoop()) {
    return loop_.Post([self = shared_from_this(), due] { self->WatchDeadline(due); });
  }
  if (closed()) return;
  const transport::Instant look = std::max(due + kDeadlineGrace, next_look_);
  if (!deadline_timer_.armed() || look < deadline_timer_.due()) loop_.timers().Arm(deadline_timer_, look);
}

// Cancels the calls that have expired and whose handlers may wait: in a stream, or to be told.
void ServerSession::OnDeadline() {
  const std::shared_ptr<ServerSession> self = shared_from_this();
  transport::Instant next = transport::Instant::Infinite();
  next_look_ = loop_.now() + kDeadlineRest;
  slots_.ForEach([now = loop_.now(), &next](ServerSlot& slot) {
    ServerCall* call = slot.call.load(std::memory_order_acquire);
    if (call == nullptr || (slot.messages == nullptr && !call->context().has_on_cancel())) return;
    const transport::Instant due = call->context().due();
    if (due + kDeadlineGrace <= now) return Cancel(slot, *call);
    next = std::min(next, due);
  });
  if (next != transport::Instant::Infinite()) WatchDeadline(next);
}

// The client sends no more requests (PROTOCOL.md [P13.7]).
void ServerSession::OnDrain(const Frame& frame) {
  wire::DrainHead head;
  if (absl::Status parsed = ParseHead(frame.head(), "drain head", head); !parsed.ok()) return Break(parsed);
  if (std::exchange(drained_, true)) return Break(absl::InternalError("DRAIN frame came twice"));
  if (head.last_ordinal() != requests_) {
    Break(absl::InternalError(absl::StrCat("DRAIN frame says that ", head.last_ordinal(),
                                           " requests were sent, but ", requests_, " have come")));
  }
}

// ---------------------------------------------------------------- The end

void ServerSession::Drain() {
  loop_.AssertInLoop();
  if (std::exchange(draining_, true)) return;
  SetLastCalls();
  if (!greeted_) return CloseAfterRounds(kRoundsToRead);
  SendDrain();
  CloseIfDone();
}

void ServerSession::SendDrain() {
  wire::DrainHead head;
  head.set_last_ordinal(requests_);
  head.set_message("the server shuts down");
  SendHead({.type = FrameType::kDrain}, head.SerializeAsString(), *connection_);
}

// Closes once the loop has read what is there by now.
void ServerSession::CloseAfterRounds(int rounds) {
  if (rounds == 0) return CloseIfDone();
  loop_.Post([session = shared_from_this(), rounds] { session->CloseAfterRounds(rounds - 1); });
}

// The client writes no more: what it has asked for whole is answered.
void ServerSession::OnEndOfInput() {
  SetLastCalls();
  // It will never say that it accepts more.
  output_.StopCounting();
  EndArriving(absl::CancelledError("the client stopped writing in the middle of the request"));
  // One that has gone altogether looks the same, until something is sent to it: its system answers by a
  // reset, and calls that would wait for their next reply are cancelled.
  if (in_flight() > 0) SendPing(*connection_);
  CloseIfDone();
}

// From now on the connection closes when the calls in flight have ended. Their ends count and then look at
// the flag, which is set before we look at the count: in the one order of all, one of the two sees the last
// end.
void ServerSession::SetLastCalls() {
  last_calls_ = true;
  ends_.fetch_or(kLastCalls);
}

void ServerSession::CloseIfDone() {
  if (in_flight() == 0 && output_.idle()) connection_->CloseAfterFlush(absl::OkStatus());
}

void ServerSession::OnMalformedInput(const absl::Status& why, bool tell_peer) {
  if (tell_peer) output_.SendConnectionStatus(why);
  connection_->CloseAfterFlush(why);
  // The connection may linger for the peer's sake; the handlers need not.
  CancelCalls(why);
}

void ServerSession::Close(const absl::Status& why) { connection_->Close(why); }

void ServerSession::OnClosed(const absl::Status& why) {
  CancelCalls(why);
  output_.DropAll();
  // They hold on to this.
  slots_.ForEach([](ServerSlot& slot) { slot.messages = nullptr; });
  for (Executor::Task* task : std::exchange(to_execute_, {})) {
    static_cast<ServerCall*>(task)->End(absl::CancelledError("the connection is closed"));
  }
  loop_.timers().Cancel(deadline_timer_);
  shared_->OnSessionEnded(*this);
  self_ = shared_from_this();
  const uint64_t ends = ends_.fetch_or(kClosed) / kOneEnd;
  if (ends == begun_) self_.reset();
}

// Tells all handlers that nobody waits for their answers.
void ServerSession::CancelCalls(const absl::Status& why) {
  slots_.ForEach([](ServerSlot& slot) {
    ServerCall* call = slot.call.load(std::memory_order_acquire);
    if (call != nullptr) Cancel(slot, *call);
  });
  EndArriving(why);
}

// Ends the calls whose requests will never be whole, and those streams whose ends will not come.
void ServerSession::EndArriving(const absl::Status& why) {
  const absl::Status status = why.ok() ? absl::CancelledError("the connection is closed") : why;
  std::vector<ServerCall*> arriving;
  slots_.ForEach([&](ServerSlot& slot) {
    ServerCall* call = slot.call.load(std::memory_order_acquire);
    if (!std::exchange(slot.arriving, false) || call == nullptr) return;
    if (!call->method->takes_stream) return arriving.push_back(call);
    // In this order: a handler that is told of the failure finds its call cancelled.
    call->context().Cancel();
    slot.messages->Fail(status);
    slot.messages->End();
  });
  for (ServerCall* call : arriving) {
    call->not_executed = true;
    call->End(status);
  }
}

}  // namespace ferry
