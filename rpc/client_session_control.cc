// Frames of the connection itself, the messages of streams, and how the session ends.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/client_session.h"
#include "ferry/transport/error_number.h"

namespace ferry {

using transport::Connection;
using transport::Frame;
using transport::FrameType;
using transport::StreamId;

void ClientSession::OnOtherFrame(const Frame& frame) {
  if (absl::Status use = CheckFrameUse(frame.header, Side::kServer); !use.ok()) return Break(use);
  if (!settings_seen_ && frame.header.type != FrameType::kSettings) {
    return Break(absl::InternalError(absl::StrCat(
        "first frame is ", transport::FrameTypeName(frame.header.type), ", it must be SETTINGS")));
  }
  if (IsCounted(frame.header)) received_ += WindowCost(frame.header);
  if (received_ >= options_.settings.initial_connection_window / 2) {
    Grant(transport::kConnectionStream, std::exchange(received_, 0));
  }
  switch (frame.header.type) {
    case FrameType::kResponse:
    case FrameType::kMessage:
      return OnCallFrame(frame);
    case FrameType::kStatus:
      return frame.header.stream == transport::kConnectionStream ? OnConnectionStatus(frame)
                                                                 : OnCallFrame(frame);
    case FrameType::kSettings:
      return OnSettings(frame);
    case FrameType::kPing:
      if (!IsFlood()) AnswerPing(frame, *connection_);
      return;
    case FrameType::kDrain:
      return OnDrain(frame);
    case FrameType::kWindow:
      if (!IsFlood()) OnWindow(frame);
      return;
    case FrameType::kRequest:
    case FrameType::kCancel:
      return;  // CheckFrameUse has refused them
  }
}

// Counts a frame that no window and no slot bounds; breaks the connection if it is one too many.
bool ClientSession::IsFlood() {
  const absl::Status counted = flood_guard_.Count(loop_.now());
  if (!counted.ok()) Break(counted);
  return !counted.ok();
}

void ClientSession::OnSettings(const Frame& frame) {
  absl::StatusOr<WireSettings> settings = DecodeSettings(frame.head());
  if (!settings.ok()) return Break(settings.status());
  if (std::exchange(settings_seen_, true)) return Break(absl::InternalError("SETTINGS frame came twice"));
  max_message_.store(settings->max_message, std::memory_order_relaxed);
  max_head_.store(settings->max_head, std::memory_order_relaxed);
  {
    transport::SharedLock lock(mutex_, shared_);
    max_streams_ = settings->max_streams;
  }
  const bool counting = WithSender([&](MessageSender& sender) {
    sender.SetPeer(*settings);
    return sender.counting();
  });
  counting_.store(counting, std::memory_order_relaxed);
  owner_.OnIntroduced(*this);
}

// The server takes no more calls on this connection (PROTOCOL.md [P13.5]).
void ClientSession::OnDrain(const Frame& frame) {
  wire::DrainHead head;
  if (absl::Status parsed = ParseHead(frame.head(), "drain head", head); !parsed.ok()) return Break(parsed);
  if (std::exchange(drained_, true)) return Break(absl::InternalError("DRAIN frame came twice"));
  uint64_t sent;
  {
    transport::SharedLock lock(mutex_, shared_);
    closed_ = true;
    sent = sender_.requests;
  }
  if (head.last_ordinal() > sent) {
    return Break(absl::InternalError(absl::StrCat("DRAIN frame accepts ", head.last_ordinal(),
                                                  " requests, but only ", sent, " were sent")));
  }
  TellOwner(absl::UnavailableError("the server takes no more calls"));
  GiveBackBeyond(head.last_ordinal());
}

// Gives back the calls that the server will neither execute nor answer.
void ClientSession::GiveBackBeyond(uint64_t last_ordinal) {
  std::vector<ClientCall*> beyond;
  {
    transport::SharedLock lock(mutex_, shared_);
    for (const StreamId stream : table_.Streams()) {
      ClientCall* call = table_.Find(stream);
      if (call == nullptr || call->ordinal <= last_ordinal) continue;
      TakeOut(stream, &call);
      beyond.push_back(call);
    }
  }
  AfterTakingOut();
  GiveBack(std::move(beyond),
           absl::UnavailableError("the server takes no more calls, this one was not executed"));
}

void ClientSession::GiveBack(std::vector<ClientCall*> calls, const absl::Status& why) {
  if (calls.empty()) return;
  std::sort(calls.begin(), calls.end(),
            [](const ClientCall* a, const ClientCall* b) { return a->ordinal < b->ordinal; });
  for (ClientCall* call : calls) call->reply_fragments.Reset();
  owner_.OnCallsReturned(calls, why);
}

// The server says why it is about to close the connection.
void ClientSession::OnConnectionStatus(const Frame& frame) {
  absl::StatusOr<WireStatus> why = DecodeStatusHead(frame.head());
  connection_->Close(absl::UnavailableError(
      absl::StrCat("the server ended the connection: ", (why.ok() ? why->status : why.status()).ToString())));
}

ConnectionStats ClientSession::Stats() {
  loop_.AssertInLoop();
  const Connection::Counters& counters = connection_->counters();
  ConnectionStats stats{.peer = connection_->peer(),
                        .age = loop_.now() - began_,
                        .bytes_written = counters.bytes_written.load(std::memory_order_relaxed),
                        .bytes_read = counters.bytes_read.load(std::memory_order_relaxed)};
  transport::SharedLock lock(mutex_, shared_);
  stats.calls_started = sender_.requests;
  stats.calls_in_flight = table_.calls();
  for (const StreamId stream : table_.Streams()) {
    if (table_.Find(stream)->messages != nullptr) ++stats.streams;
  }
  return stats;
}

// ---------------------------------------------------------------- Streams

bool ClientSession::Unshare() {
  loop_.AssertInLoop();
  {
    transport::SharedLock lock(mutex_, shared_);
    if (has_streamed_) return false;
  }
  shared_ = false;
  return true;
}

// A part of a stream of replies.
void ClientSession::OnStreamed(const Frame& frame, ClientCall& call) {
  const StreamId stream = frame.header.stream;
  if (frame.header.type == FrameType::kResponse || frame.header.has(transport::kEndStream)) {
    return Abandon(stream, absl::InternalError(
                               absl::StrCat(transport::FrameTypeName(frame.header.type), " frame with ",
                                            frame.header.type == FrameType::kResponse ? "MORE" : "END_STREAM",
                                            " is in a stream of replies")));
  }
  call.answering = true;
  answered_ = true;
  MessageQueue& queue = call.messages->queue();
  Metadata* initial = call.reply_metadata != nullptr ? &call.reply_metadata->initial : nullptr;
  size_t credit = 0;
  absl::Status status = AppendStreamed(frame, queue, counting_.load(std::memory_order_relaxed),
                                       {shared_from_this(), &fragment_budget_}, &credit, initial);
  if (queue.overflowed() && counting_.load(std::memory_order_relaxed)) {
    return Break(absl::ResourceExhaustedError(
        absl::StrCat("slot ", stream.slot(), " has received more than its window of ",
                     options_.settings.initial_stream_window, " bytes")));
  }
  if (!status.ok()) return Abandon(stream, std::move(status));
  if (credit > 0) Grant(stream, credit);
}

void ClientSession::OnWindow(const Frame& frame) {
  absl::StatusOr<uint32_t> increment = DecodeWindowHead(frame.head());
  if (!increment.ok()) return Break(increment.status());
  const StreamId stream = frame.header.stream;
  if (stream != transport::kConnectionStream) CheckKnown(frame);
  if (!counting_.load(std::memory_order_relaxed)) return;
  absl::Status enlarged =
      WithSender([&](MessageSender& sender) { return sender.Enlarge(stream, *increment); });
  if (!enlarged.ok()) Break(enlarged);
}

void ClientSession::OnRoom() {
  WithSender([](MessageSender& sender) { sender.Pump(); });
}

MessageSender::Added ClientSession::SendStreamed(const MessageFrames& frames,
                                                 const google::protobuf::MessageLite& message, size_t size,
                                                 MessageSender::OnSent on_sent) {
  const MessageSender::Added added = WithSender([&](MessageSender& sender) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    // Nothing may follow the call's end.
    if (table_.Find(frames.stream) == nullptr) return MessageSender::Added::kClosed;
    return sender.AddSmall(frames, message, size);
  });
  if (added != MessageSender::Added::kWaiting) return added;
  return SendStreamed(frames, Encode(message, size, *connection_), std::move(on_sent));
}

MessageSender::Added ClientSession::SendStreamed(const MessageFrames& frames, absl::string_view bytes,
                                                 MessageSender::OnSent on_sent) {
  return SendStreamed(frames, EncodedCopy(bytes, *connection_), std::move(on_sent));
}

MessageSender::Added ClientSession::SendStreamed(const MessageFrames& frames, EncodedMessage encoded,
                                                 MessageSender::OnSent on_sent) {
  return WithSender([&](MessageSender& sender) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (table_.Find(frames.stream) == nullptr) return MessageSender::Added::kClosed;
    return sender.Add({.frames = frames, .encoded = std::move(encoded), .on_sent = std::move(on_sent)});
  });
}

void ClientSession::SendStreamEnd(StreamId stream, uint8_t priority) {
  WithSender([&](MessageSender& sender) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (table_.Find(stream) != nullptr) sender.AddEnd(FrameType::kMessage, stream, priority, {});
  });
}

void ClientSession::Grant(StreamId stream, size_t bytes) {
  if (counting_.load(std::memory_order_relaxed)) SendWindow(stream, bytes, *connection_);
}

// ---------------------------------------------------------------- The end

void ClientSession::OnEndOfInput() {
  connection_->Close(absl::UnavailableError("the server closed the connection"));
}

void ClientSession::OnSilence() {
  const std::shared_ptr<ClientSession> self = shared_from_this();
  connection_->Close(absl::UnavailableError(
      absl::StrCat("no sign of life within ", absl::FormatDuration(options_.keepalive.time), " of a PING")));
}

void ClientSession::OnMalformedInput(const absl::Status& why, bool tell_peer) {
  if (tell_peer) {
    SendHead({.type = FrameType::kStatus, .flags = transport::kEndStream},
             EncodeStatusHead({.status = why}, max_head()), *connection_);
  }
  broken_ = !connection_->end_of_input();
  connection_->CloseAfterFlush(why);
  // The connection may linger for the peer's sake; the calls need not. What was appended may yet be written.
  EndCalls(why, std::numeric_limits<uint64_t>::max());
}

void ClientSession::Close(const absl::Status& why) {
  SendCancels();
  connection_->Close(why);
}

// To a server the end of our bytes alone would mean that we still wait for answers (PROTOCOL.md [P13.2]).
void ClientSession::SendCancels() {
  std::vector<StreamId> streams;
  {
    transport::SharedLock lock(mutex_, shared_);
    streams = table_.Streams();
  }
  if (streams.empty()) return;
  connection_->Append([&](Connection::Output& output) {
    char* out = output.Append(streams.size() * transport::kFrameHeaderSize);
    for (const StreamId stream : streams) {
      transport::EncodeFrameHeader({.type = FrameType::kCancel, .stream = stream}, out);
      out += transport::kFrameHeaderSize;
    }
  });
  connection_->FlushNow();
}

void ClientSession::OnClosed(const absl::Status& why) {
  keepalive_.End();
  TellOwner(why);
  owner_.OnSessionClosed(*this);
  EndCalls(why, connection_->last_write());
}

void ClientSession::TellOwner(const absl::Status& why) {
  if (!std::exchange(owner_told_, true)) owner_.OnNoMoreCalls(*this, why);
}

// Ends the calls or gives them back. Nothing that was appended after the write `last_write` has been written.
void ClientSession::EndCalls(const absl::Status& why, uint64_t last_write) {
  const std::shared_ptr<ClientSession> self = shared_from_this();
  ended_ = true;
  const bool cancelled = absl::IsCancelled(why);
  // Those that were never sent, those that may be sent twice, and the rest.
  std::vector<ClientCall*> unsent, repeatable, calls;
  {
    transport::SharedLock lock(mutex_, shared_);
    closed_ = true;
    for (const StreamId stream : table_.Streams()) {
      ClientCall* call = table_.Find(stream);
      deadlines_.Remove(*call);
      const bool never_sent = sender_.Drop(stream) || call->writes_before >= last_write;
      const bool may_repeat = !settings_seen_ && call->method->idempotent && call->messages == nullptr;
      (cancelled ? calls : never_sent ? unsent : may_repeat ? repeatable : calls).push_back(call);
    }
    sender_.DropAll();
    table_.TakeAll();
  }
  loop_.timers().Cancel(deadline_timer_);
  TellOwner(why);
  const int error = transport::ErrorNumberOf(why);
  const absl::Status status =
      cancelled
          ? why
          : transport::WithErrorNumber(absl::UnavailableError(absl::StrCat(
                                           "connection to ", connection_->peer(), " lost: ", why.message())),
                                       error);
  AfterTakingOut();
  // Each goes to the front of those that wait: what was started last first.
  GiveBack(std::move(unsent),
           transport::WithErrorNumber(
               absl::UnavailableError(absl::StrCat(std::string(status.message()), ", the call was not sent")),
               error));
  for (ClientCall* call : repeatable) call->execution = Execution::kMaybeExecuted;
  GiveBack(std::move(repeatable), status);
  for (ClientCall* call : calls) EndUnansweredCall(*call, /*sent=*/true, status);
}

}  // namespace ferry
