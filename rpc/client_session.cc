#include "ferry/rpc/client_session.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"

namespace ferry {

using transport::Connection;
using transport::Frame;
using transport::FrameType;
using transport::StreamId;

namespace {

// Puts the metadata of a RESPONSE where the caller wants it; returns the message's length if it comes in
// fragments.
absl::StatusOr<uint64_t> ReadResponseHead(const Frame& frame, ClientCall& call) {
  wire::ResponseHead head;
  if (absl::Status parsed = ParseHead(frame.head(), "response head", head); !parsed.ok()) return parsed;
  // Bad keys are an error whether the caller wants them or not (PROTOCOL.md [P8.5]).
  ReplyMetadata metadata;
  absl::Status read = ReadMetadata(head.initial_metadata(), metadata.initial);
  read.Update(ReadMetadata(head.trailing_metadata(), metadata.trailing));
  if (!read.ok()) return absl::InternalError(read.message());
  if (call.reply_metadata != nullptr) *call.reply_metadata = std::move(metadata);
  return head.message_length();
}

}  // namespace

ClientSession::ClientSession(const Options& options, transport::EventLoop& loop, Owner& owner,
                             std::unique_ptr<transport::ByteStream> stream)
    : options_(options),
      loop_(loop),
      owner_(owner),
      connection_(Connection::Create(options.connection, loop, *this, std::move(stream))),
      max_streams_(WireSettings().max_streams),
      max_message_(WireSettings().max_message),
      max_head_(WireSettings().max_head),
      fragment_budget_(options.max_fragment_bytes),
      deadline_timer_([this] { OnDeadline(); }) {}

void ClientSession::Begin() {
  loop_.AssertInLoop();
  connection_->Start();
  SendHead({.type = FrameType::kSettings}, EncodeSettings(options_.settings), *connection_);
}

// ---------------------------------------------------------------- Starting calls

// Puts `call` in the table and has `append` append its request, in one critical section: a deadline's CANCEL
// never comes before its REQUEST, and a call whose request was not appended is not in the table.
template <typename F>
ClientSession::Started ClientSession::StartWith(ClientCall& call, F&& append) {
  MessageFrames frames{.type = FrameType::kRequest,
                       .method = call.method->id,
                       .deadline = call.deadline,
                       .clock = &loop_.clock(),
                       .head = absl::string_view(call.head)};
  const transport::Instant deadline = call.deadline;
  bool wake_loop;
  Connection::Appended appended;
  {
    transport::MutexLock lock(mutex_);
    if (closed_) return Started::kClosed;
    const std::optional<StreamId> stream = table_.Open(call, max_streams_ - 1);
    if (!stream.has_value()) {
      wants_slot_ = true;
      return Started::kFull;
    }
    frames.stream = *stream;
    appended = append(frames);
    if (appended == Connection::Appended::kClosed) {
      table_.Take(*stream);
      return Started::kClosed;
    }
    call.ordinal = ++requests_;
    call.stream = *stream;
    wake_loop = deadlines_.Add(call);
  }
  if (appended == Connection::Appended::kFlush) connection_->FlushAppended();
  if (wake_loop) CheckDeadlinesAt(deadline);
  return Started::kYes;
}

ClientSession::Started ClientSession::Start(ClientCall& call, const google::protobuf::MessageLite& request,
                                            size_t size) {
  if (size > kMaxGathered) {
    const EncodedMessage encoded = Encode(request, size, *connection_);
    return StartWith(
        call, [&](const MessageFrames& frames) { return AppendMessage(frames, encoded, *connection_); });
  }
  return StartWith(
      call, [&](const MessageFrames& frames) { return AppendMessage(frames, request, size, *connection_); });
}

ClientSession::Started ClientSession::StartWaiting(ClientCall& call) {
  // The call may end, and be used for another, as soon as its request is appended.
  EncodedMessage request{.block = std::move(call.waiting_request)};
  if (request.block) request.bytes = absl::string_view(request.block.data(), call.waiting_request_size);
  const Started started = StartWith(
      call, [&](const MessageFrames& frames) { return AppendMessage(frames, request, *connection_); });
  if (started != Started::kYes) call.waiting_request = std::move(request.block);
  return started;
}

// ---------------------------------------------------------------- Deadlines

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
    {
      transport::MutexLock lock(mutex_);
      call = deadlines_.TakeDue(loop_.now());
      wake_at = deadlines_.wake_at();
      if (call != nullptr) {
        stream = call->stream;
        table_.Abandon(stream);
      }
    }
    if (call == nullptr) {
      if (wake_at != transport::Instant::Infinite()) CheckDeadlinesAt(wake_at);
      return;
    }
    SendHead({.type = FrameType::kCancel, .stream = stream}, {}, *connection_);
    call->reply_fragments.Reset();
    call->Complete(absl::DeadlineExceededError(absl::StrCat(
        "no answer from ", connection_->peer(), " before the deadline of ", call->method->full_name)));
  }
}

// ---------------------------------------------------------------- What arrives

void ClientSession::OnOtherFrame(const Frame& frame) {
  if (absl::Status use = CheckFrameUse(frame.header, Side::kServer); !use.ok()) return Break(use);
  if (!settings_seen_ && frame.header.type != FrameType::kSettings) {
    return Break(absl::InternalError(absl::StrCat(
        "first frame is ", transport::FrameTypeName(frame.header.type), ", it must be SETTINGS")));
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
      return AnswerPing(frame, *connection_);
    case FrameType::kDrain:
      return OnDrain(frame);
    case FrameType::kWindow:
      return;  // of no consequence without FLOW_CONTROL
    case FrameType::kRequest:
    case FrameType::kCancel:
      return;  // CheckFrameUse has refused them
  }
}

void ClientSession::OnSettings(const Frame& frame) {
  absl::StatusOr<WireSettings> settings = DecodeSettings(frame.head());
  if (!settings.ok()) return Break(settings.status());
  if (std::exchange(settings_seen_, true)) return Break(absl::InternalError("SETTINGS frame came twice"));
  max_message_.store(settings->max_message, std::memory_order_relaxed);
  max_head_.store(settings->max_head, std::memory_order_relaxed);
  transport::MutexLock lock(mutex_);
  max_streams_ = settings->max_streams;
}

// The server takes no more calls on this connection (PROTOCOL.md [P13.5]).
void ClientSession::OnDrain(const Frame& frame) {
  wire::DrainHead head;
  if (absl::Status parsed = ParseHead(frame.head(), "drain head", head); !parsed.ok()) return Break(parsed);
  if (std::exchange(drained_, true)) return Break(absl::InternalError("DRAIN frame came twice"));
  uint64_t sent;
  {
    transport::MutexLock lock(mutex_);
    closed_ = true;
    sent = requests_;
  }
  if (head.last_ordinal() > sent) {
    return Break(absl::InternalError(absl::StrCat("DRAIN frame accepts ", head.last_ordinal(),
                                                  " requests, but only ", sent, " were sent")));
  }
  const absl::Status why = absl::UnavailableError("the server takes no more calls");
  TellOwner(why);
  EndBeyond(head.last_ordinal(), why);
}

// Ends the calls that the server will neither execute nor answer.
void ClientSession::EndBeyond(uint64_t last_ordinal, const absl::Status& why) {
  std::vector<ClientCall*> beyond;
  {
    transport::MutexLock lock(mutex_);
    for (const StreamId stream : table_.Streams()) {
      ClientCall* call = table_.Find(stream);
      if (call == nullptr || call->ordinal <= last_ordinal) continue;
      table_.Abandon(stream);
      deadlines_.Remove(*call);
      beyond.push_back(call);
    }
  }
  for (ClientCall* call : beyond) {
    call->reply_fragments.Reset();
    call->Complete(why);
  }
}

// The server says why it is about to close the connection.
void ClientSession::OnConnectionStatus(const Frame& frame) {
  absl::StatusOr<WireStatus> why = DecodeStatusHead(frame.head());
  connection_->Close(absl::UnavailableError(
      absl::StrCat("the server ended the connection: ", (why.ok() ? why->status : why.status()).ToString())));
}

void ClientSession::OnCallFrame(const Frame& frame) {
  if (frame.header.type == FrameType::kStatus) return OnStatus(frame);
  if (frame.header.type == FrameType::kMessage || frame.header.has(transport::kMore))
    return OnFragment(frame);
  OnResponse(frame);
}

// Breaks the connection if a frame that found no call is on a slot that was never used.
void ClientSession::CheckKnown(const Frame& frame) {
  bool known;
  {
    transport::MutexLock lock(mutex_);
    known = table_.Knows(frame.header.stream);
  }
  if (known) return;
  Break(absl::InternalError(absl::StrCat(transport::FrameTypeName(frame.header.type), " frame is on slot ",
                                         frame.header.stream.slot(), ", which was never used")));
}

// Takes the call that the server has ended out of the table; nullptr if it has ended for us already.
ClientCall* ClientSession::Take(StreamId stream) {
  ClientCall* call;
  bool tell_owner;
  {
    transport::MutexLock lock(mutex_);
    call = table_.Take(stream);
    if (call != nullptr) deadlines_.Remove(*call);
    tell_owner = std::exchange(wants_slot_, false);
  }
  answered_ = true;
  if (tell_owner) owner_.OnSlotFree();
  return call;
}

void ClientSession::OnResponse(const Frame& frame) {
  ClientCall* call = Take(frame.header.stream);
  if (ABSL_PREDICT_FALSE(call == nullptr)) return CheckKnown(frame);
  const bool plain = frame.header.head == 0 && frame.header.length <= options_.settings.max_message &&
                     !call->reply_fragments.active();
  if (ABSL_PREDICT_FALSE(!plain)) {
    if (absl::Status status = CheckResponse(frame, *call); !status.ok()) {
      return call->Complete(std::move(status));
    }
  }
  if (ABSL_PREDICT_TRUE(call->ParseReply(frame.message()))) return call->Complete(absl::OkStatus());
  call->Complete(
      absl::InternalError(absl::StrCat("response of ", frame.message().size(), " bytes does not parse")));
}

// What is wrong with a whole response, whose metadata are read.
absl::Status ClientSession::CheckResponse(const Frame& frame, ClientCall& call) {
  if (call.reply_fragments.active()) {
    call.reply_fragments.Reset();
    return absl::InternalError("RESPONSE frame came twice");
  }
  if (frame.header.message_size() > options_.settings.max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", frame.header.message_size(),
                                                     " bytes, limit is ", options_.settings.max_message));
  }
  return frame.header.head > 0 ? ReadResponseHead(frame, call).status() : absl::OkStatus();
}

void ClientSession::OnFragment(const Frame& frame) {
  const StreamId stream = frame.header.stream;
  const bool last = frame.header.has(transport::kEndStream);
  if (!last && !frame.header.has(transport::kMore)) {
    return Break(absl::InternalError("MESSAGE frame has neither MORE nor END_STREAM in a unary call"));
  }
  ClientCall* call;
  {
    transport::MutexLock lock(mutex_);
    call = table_.Find(stream);
  }
  if (call == nullptr) {
    if (last) Take(stream);
    return CheckKnown(frame);
  }
  MessageAssembly& fragments = call->reply_fragments;
  absl::Status status;
  if (frame.header.type == FrameType::kResponse) {
    absl::StatusOr<uint64_t> length = ReadResponseHead(frame, *call);
    status = length.status();
    if (status.ok() && fragments.active()) status = absl::InternalError("RESPONSE frame came twice");
    if (status.ok()) status = fragments.Begin(*length, options_.settings.max_message, fragment_budget_);
  } else if (!fragments.active()) {
    status = absl::InternalError("MESSAGE frame came before RESPONSE");
  }
  if (status.ok()) status = fragments.Append(frame.message());
  if (status.ok() && last && !fragments.whole()) {
    status = fragments.TooShort();
  }
  if (!last) {
    if (!status.ok()) Abandon(stream, std::move(status));
    return;
  }
  // The server has ended the call, well or not: it need not be told to stop.
  call = Take(stream);
  if (status.ok() && !call->ParseReply(fragments.bytes())) {
    status = absl::InternalError(absl::StrCat("response of ", fragments.total(), " bytes does not parse"));
  }
  fragments.Reset();
  call->Complete(std::move(status));
}

void ClientSession::OnStatus(const Frame& frame) {
  ClientCall* call = Take(frame.header.stream);
  if (call == nullptr) return CheckKnown(frame);
  call->reply_fragments.Reset();
  absl::StatusOr<WireStatus> decoded = DecodeStatusHead(frame.head());
  if (!decoded.ok()) return call->Complete(decoded.status());
  if (call->reply_metadata != nullptr) {
    *call->reply_metadata = {.initial = std::move(decoded->initial_metadata),
                             .trailing = std::move(decoded->trailing_metadata)};
  }
  call->Complete(std::move(decoded->status));
}

void ClientSession::Abandon(StreamId stream, absl::Status why) {
  ClientCall* call;
  {
    transport::MutexLock lock(mutex_);
    call = table_.Abandon(stream);
    if (call != nullptr) deadlines_.Remove(*call);
  }
  if (call == nullptr) return;
  SendHead({.type = FrameType::kCancel, .stream = stream}, {}, *connection_);
  call->reply_fragments.Reset();
  call->Complete(std::move(why));
}

// ---------------------------------------------------------------- The end

void ClientSession::OnEndOfInput() {
  connection_->Close(absl::UnavailableError("the server closed the connection"));
}

void ClientSession::OnMalformedInput(const absl::Status& why, bool tell_peer) {
  if (tell_peer) {
    SendHead({.type = FrameType::kStatus, .flags = transport::kEndStream},
             EncodeStatusHead({.status = why}, max_head()), *connection_);
  }
  connection_->CloseAfterFlush(why);
  // The connection may linger for the peer's sake; the calls need not.
  EndCalls(why);
}

void ClientSession::Close(absl::Status why) {
  SendCancels();
  connection_->Close(std::move(why));
}

// To a server the end of our bytes alone would mean that we still wait for answers (PROTOCOL.md [P13.2]).
void ClientSession::SendCancels() {
  std::vector<StreamId> streams;
  {
    transport::MutexLock lock(mutex_);
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
  TellOwner(why);
  owner_.OnSessionClosed(*this);
  EndCalls(why);
}

void ClientSession::TellOwner(const absl::Status& why) {
  if (!std::exchange(owner_told_, true)) owner_.OnNoMoreCalls(*this, why);
}

void ClientSession::EndCalls(const absl::Status& why) {
  const std::shared_ptr<ClientSession> self = shared_from_this();
  ended_ = true;
  std::vector<ClientCall*> calls;
  {
    transport::MutexLock lock(mutex_);
    closed_ = true;
    calls = table_.TakeAll();
    for (ClientCall* call : calls) deadlines_.Remove(*call);
  }
  loop_.timers().Cancel(deadline_timer_);
  TellOwner(why);
  const absl::Status status = absl::IsCancelled(why)
                                  ? why
                                  : absl::UnavailableError(absl::StrCat("connection to ", connection_->peer(),
                                                                        " lost: ", why.message()));
  for (ClientCall* call : calls) {
    call->reply_fragments.Reset();
    call->Complete(status);
  }
}

}  // namespace ferry
