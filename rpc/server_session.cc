#include "ferry/rpc/server_session.h"

#include <algorithm>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/message_frames.h"

namespace ferry {

using transport::Connection;
using transport::Frame;
using transport::FrameType;
using transport::StreamId;

namespace {

// How many inline calls are timed one by one after a slow read.
constexpr int kCallsToTime = 64;

// Requests of at most this many bytes are in no budget: max_streams bounds them.
constexpr size_t kMaxUncharged = 4 * 1024;

// The priority that the answers to a request have (PROTOCOL.md [P3.7]).
uint8_t AnswerPriority(const transport::FrameHeader& request) {
  return request.priority() == 3 ? 0 : request.priority();
}

}  // namespace

ServerSession::ServerSession(std::shared_ptr<Shared> shared, transport::EventLoop& loop, size_t loop_index,
                             std::unique_ptr<transport::ByteStream> stream)
    : shared_(std::move(shared)),
      loop_(loop),
      loop_index_(loop_index),
      connection_(Connection::Create(shared_->connection, loop, *this, std::move(stream))),
      max_message_(WireSettings().max_message),
      max_head_(WireSettings().max_head),
      request_budget_(shared_->max_request_bytes_per_connection, &shared_->request_budget) {}

void ServerSession::Begin() {
  loop_.AssertInLoop();
  connection_->Start();
}

void ServerSession::OnPreface() {
  greeted_ = true;
  SendHead({.type = FrameType::kSettings}, EncodeSettings(shared_->settings), *connection_);
}

// ---------------------------------------------------------------- What arrives

void ServerSession::OnOtherFrame(const Frame& frame) {
  if (absl::Status use = CheckFrameUse(frame.header, Side::kClient); !use.ok()) return Break(use);
  if (!settings_seen_ && frame.header.type != FrameType::kSettings) {
    return Break(absl::InternalError(absl::StrCat(
        "first frame is ", transport::FrameTypeName(frame.header.type), ", it must be SETTINGS")));
  }
  switch (frame.header.type) {
    case FrameType::kRequest:
      return OnRequest(frame);
    case FrameType::kMessage:
      return OnFragment(frame);
    case FrameType::kCancel:
      return OnCancel(frame);
    case FrameType::kSettings:
      return OnSettings(frame);
    case FrameType::kPing:
      return AnswerPing(frame, *connection_);
    case FrameType::kStatus: {
      absl::StatusOr<WireStatus> why = DecodeStatusHead(frame.head());
      return Close(absl::UnavailableError(absl::StrCat("the client ended the connection: ",
                                                       (why.ok() ? why->status : why.status()).ToString())));
    }
    case FrameType::kDrain:
      return OnDrain(frame);
    case FrameType::kWindow:
    case FrameType::kResponse:
      return;  // of no consequence in this version, or refused by CheckFrameUse
  }
}

void ServerSession::OnSettings(const Frame& frame) {
  absl::StatusOr<WireSettings> settings = DecodeSettings(frame.head());
  if (!settings.ok()) return Break(settings.status());
  if (std::exchange(settings_seen_, true)) return Break(absl::InternalError("SETTINGS frame came twice"));
  max_message_.store(settings->max_message, std::memory_order_relaxed);
  max_head_.store(settings->max_head, std::memory_order_relaxed);
}

// The way of nearly every request; anything else about one is for the functions behind it.
void ServerSession::OnRequest(const Frame& frame) {
  ++requests_;
  const RequestPrefix prefix = DecodeRequestPrefix(frame.body.data());
  ServedMethod* method = IsAdmissible(frame.header) ? FindMethod(prefix.method) : nullptr;
  if (ABSL_PREDICT_FALSE(method == nullptr)) return OnInadmissible(frame);
  Slot* slot = FreeSlot(frame.header.stream);
  if (ABSL_PREDICT_FALSE(slot == nullptr)) return;
  ServerCall& call = method->recyclers[loop_index_]->Take();
  slot->call.store(&call, std::memory_order_relaxed);
  call.place = &slot->call;
  call.owner = this;
  call.method = method;
  call.stream = frame.header.stream;
  call.priority = AnswerPriority(frame.header);
  ++begun_;
  if (prefix.timeout_us == 0) {
    call.context().Begin(connection_->peer(), loop_.clock());
  } else {
    call.context().Begin(connection_->peer(), loop_.clock(), ReadTime(), TimeoutFromWire(prefix.timeout_us));
  }
  const absl::string_view message = frame.message();
  if (frame.header.head > 0 || frame.header.has(transport::kMore) || message.size() > kMaxUncharged) {
    slot->arriving = frame.header.has(transport::kMore);
    return BeginLarge(frame, call);
  }
  if (ABSL_PREDICT_FALSE(!Parse(message, call))) return;
  Admit(call);
}

// Begins a call that has metadata, or whose message is large or comes in fragments.
void ServerSession::BeginLarge(const Frame& frame, ServerCall& call) {
  const absl::string_view message = frame.message();
  absl::Status status = ReadHead(frame, call);
  if (status.ok() && call.request_fragments.active()) return;
  if (status.ok() && message.size() > kMaxUncharged) {
    if (request_budget_.Take(message.size())) {
      call.charged_bytes = message.size();
    } else {
      status = request_budget_.Exhausted(message.size());
    }
  }
  if (!status.ok()) {
    call.not_executed = true;
    return call.End(std::move(status));
  }
  if (Parse(message, call)) Admit(call);
}

// Whether the request parses. If not, the call has ended.
bool ServerSession::Parse(absl::string_view message, ServerCall& call) {
  if (ABSL_PREDICT_TRUE(call.ParseRequest(message))) return true;
  call.not_executed = true;
  call.End(absl::InternalError(absl::StrCat("request of ", message.size(), " bytes does not parse")));
  return false;
}

// The method of this id, or nullptr: most often that of the request before.
ServedMethod* ServerSession::FindMethod(uint64_t id) {
  if (id != last_method_id_ || last_method_ == nullptr) {
    last_method_id_ = id;
    last_method_ = shared_->methods.Find(id);
  }
  return last_method_;
}

// The slot of a REQUEST; nullptr, and the connection is broken, if it is in use.
ServerSession::Slot* ServerSession::FreeSlot(StreamId stream) {
  while (ABSL_PREDICT_FALSE(slots_.size() <= stream.slot() / kChunk)) {
    slots_.push_back(std::make_unique<Slot[]>(kChunk));
  }
  Slot& slot = SlotOf(stream.slot());
  if (ABSL_PREDICT_FALSE(slot.call.load(std::memory_order_acquire) != nullptr)) {
    BreakForSlotInUse(stream);
    return nullptr;
  }
  slot.stream = stream;
  slot.used = true;
  slot.arriving = false;
  return &slot;
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
  if (!draining_) Refuse(frame.header, WhyInadmissible(frame));
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
  if (!frame.header.has(transport::kEndStream | transport::kMore)) {
    return absl::UnimplementedError("this server has no methods with a stream of requests");
  }
  if (frame.header.message_size() > shared_->settings.max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", frame.header.message_size(),
                                                     " bytes, limit is ", shared_->settings.max_message));
  }
  const uint64_t id = DecodeRequestPrefix(frame.body.data()).method;
  return absl::UnimplementedError(absl::StrCat("no method has id 0x", absl::Hex(id, absl::kZeroPad16)));
}

// Reads metadata, and begins a message that comes in fragments: its head says how long it is, if it has one
// or not.
absl::Status ServerSession::ReadHead(const Frame& frame, ServerCall& call) {
  if (frame.header.head == 0 && !frame.header.has(transport::kMore)) return absl::OkStatus();
  wire::RequestHead head;
  absl::Status status = ParseHead(frame.head(), "request head", head);
  if (status.ok()) status = ReadMetadata(head.metadata(), call.context().mutable_request_metadata());
  if (!status.ok() || !frame.header.has(transport::kMore)) return status;
  status =
      call.request_fragments.Begin(head.message_length(), shared_->settings.max_message, request_budget_);
  if (status.ok()) status = call.request_fragments.Append(frame.message());
  return status;
}

// Whether a frame other than REQUEST is on a slot that had one; breaks the connection if it may not be where
// it is.
bool ServerSession::IsForCall(const Frame& frame) {
  const uint32_t slot = frame.header.stream.slot();
  absl::Status valid = CheckInRange(frame.header.stream);
  if (valid.ok()) {
    // The REQUEST was refused: the client may not have known our limit (PROTOCOL.md [P9.6]).
    if (slot >= shared_->settings.max_streams) return false;
    if (slot / kChunk < slots_.size() && SlotOf(slot).used) return true;
    valid = absl::InternalError(absl::StrCat(transport::FrameTypeName(frame.header.type),
                                             " frame is on slot ", slot, ", which was never used"));
  }
  Break(valid);
  return false;
}

void ServerSession::OnFragment(const Frame& frame) {
  if (!IsForCall(frame)) return;
  const Slot& slot = SlotOf(frame.header.stream.slot());
  ServerCall* call = slot.call.load(std::memory_order_acquire);
  // A late frame of a call that has ended.
  if (call == nullptr || slot.stream != frame.header.stream) return;
  if (!slot.arriving) {
    return Break(absl::InternalError(
        absl::StrCat("MESSAGE frame is on slot ", frame.header.stream.slot(), ", whose request is whole")));
  }
  absl::Status status = call->request_fragments.Append(frame.message());
  const bool last = !frame.header.has(transport::kMore);
  if (status.ok() && last && !call->request_fragments.whole()) status = call->request_fragments.TooShort();
  if (!status.ok()) {
    call->not_executed = true;
    return call->End(std::move(status));
  }
  if (last) Admit(*call);
}

void ServerSession::OnCancel(const Frame& frame) {
  if (!IsForCall(frame)) return;
  const Slot& slot = SlotOf(frame.header.stream.slot());
  ServerCall* call = slot.call.load(std::memory_order_acquire);
  if (call == nullptr || slot.stream != frame.header.stream) return;
  // It may be ending just now on another thread, but is no other call yet.
  call->context().Cancel();
  if (!slot.arriving) return;
  call->not_executed = true;
  call->End(absl::CancelledError("the client cancelled the call"));
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

// ---------------------------------------------------------------- Running

// Hands a call whose request has arrived to its handler, now or through the executor.
void ServerSession::Admit(ServerCall& call) {
  if (call.request_fragments.active()) SlotOf(call.stream.slot()).arriving = false;
  // A request in fragments is large: it is not parsed on the loop.
  const bool run_inline = call.method->run_inline && !call.request_fragments.active();
  if (run_inline && call.method->guard.MayRunInline(loop_.now())) return RunInline(call);
  to_execute_.push_back(&call);
}

void ServerSession::RunInline(ServerCall& call) {
  // Calls of the same read that ran before may have taken all of its time.
  if (call.context().expired()) {
    call.not_executed = true;
    return call.End(absl::OkStatus());
  }
  ServedMethod& method = *call.method;
  if (calls_to_time_ == 0) {
    if (inline_calls_++ == 0) ReadTime();
    return method.method.start(method.service, call);
  }
  --calls_to_time_;
  const transport::Clock& clock = loop_.clock();
  const int64_t interruptions = clock.Interruptions();
  const transport::Instant start = clock.Now();
  method.method.start(method.service, call);
  const transport::Instant end = clock.Now();
  // A handler is not slow because others wanted the processor.
  if (clock.Interruptions() != interruptions) return;
  if (method.guard.Report(start, end)) {
    shared_->log(absl::StrCat("method ", method.name(), " repeatedly took longer than ",
                              absl::FormatDuration(method.guard.options().budget),
                              " on an event loop and runs on the executor for ",
                              absl::FormatDuration(method.guard.options().time_away)));
  }
}

// About when the bytes now being handled were read: the clock is looked at once for all of their calls. Not
// the batch's start, for the handlers of other connections may have taken their time since.
transport::Instant ServerSession::ReadTime() {
  if (!read_time_.has_value()) read_time_ = loop_.clock().Now();
  return *read_time_;
}

void ServerSession::OnEndOfRead() {
  if (inline_calls_ > 0) {
    const absl::Duration taken = loop_.clock().Now() - ReadTime();
    // An eighth, so that one slow call among quick ones shows.
    if (taken / static_cast<int64_t>(inline_calls_) > shared_->methods.inline_guard().budget / 8) {
      calls_to_time_ = kCallsToTime;
    }
    inline_calls_ = 0;
  }
  read_time_.reset();
  if (to_execute_.empty()) return;
  const size_t taken = shared_->executor->Submit(to_execute_);
  for (size_t i = taken; i < to_execute_.size(); ++i) {
    ServerCall& call = static_cast<ServerCall&>(*to_execute_[i]);
    call.not_executed = true;
    call.End(absl::ResourceExhaustedError(absl::StrCat(
        "the server's queue is full: ", shared_->executor->capacity(), " calls wait, which is the limit")));
  }
  to_execute_.clear();
}

void ServerSession::RunCall(ServerCall& call) {
  if (call.context().cancelled()) {
    call.not_executed = true;
    return call.End(absl::CancelledError("nobody waits for the call any more"));
  }
  if (call.request_fragments.active()) {
    if (!Parse(call.request_fragments.bytes(), call)) return;
  }
  call.method->method.start(call.method->service, call);
}

// ---------------------------------------------------------------- Ending

void ServerSession::EndCall(ServerCall& call, absl::Status status) {
  if (ABSL_PREDICT_FALSE(call.context().cancelled())) status = WhyUnwanted(call, status);
  // Before the answer is written: the client may use the slot again as soon as it has it.
  std::exchange(call.place, nullptr)->store(nullptr, std::memory_order_release);
  size_t bytes = 0;
  if (closed()) {
    // Nobody is there to be told.
  } else if (ABSL_PREDICT_TRUE(status.ok())) {
    bytes = SendReply(call);
  } else {
    SendStatus(call, status);
  }
  bytes = std::max({bytes, call.request_fragments.total(), call.charged_bytes});
  if (call.charged_bytes > 0) request_budget_.GiveBack(std::exchange(call.charged_bytes, 0));
  const bool in_loop = loop_.InLoop();
  call.recycler->Return(call, bytes, in_loop);
  CountEnd(in_loop);
}

// How a call ends that nobody waits for any more, and that would have ended with `status`.
absl::Status ServerSession::WhyUnwanted(ServerCall& call, const absl::Status& status) const {
  if (call.context().expired()) {
    return absl::DeadlineExceededError(
        absl::StrCat("deadline of ", absl::FormatDuration(call.context().timeout()),
                     " exceeded before the handler ", call.not_executed ? "started" : "ended"));
  }
  return status.ok() ? absl::CancelledError("the client cancelled the call") : status;
}

// After the answer is appended: who sees no call in flight may finish writing. May be this session's end.
void ServerSession::CountEnd(bool in_loop) {
  if (in_loop && !closed()) {
    --begun_;
    if (last_calls_ && in_flight() == 0)
      loop_.Post([session = shared_from_this()] { session->CloseIfDone(); });
    return;
  }
  // The count below lets the loop close the connection, and others end the session.
  const std::shared_ptr<ServerSession> session = shared_from_this();
  const uint64_t before = ends_.fetch_add(kOneEnd);
  if ((before & kClosed) != 0) {
    if (before / kOneEnd + 1 == begun_) self_.reset();
  } else if ((before & kLastCalls) != 0) {
    loop_.Post([session] { session->CloseIfDone(); });
  }
}

size_t ServerSession::SendReply(ServerCall& call) {
  const google::protobuf::MessageLite& reply = call.reply_message();
  const size_t size = reply.ByteSizeLong();
  const bool plain = size <= kMaxFragment && size <= max_message_.load(std::memory_order_relaxed) &&
                     !call.context().has_reply_metadata();
  if (ABSL_PREDICT_FALSE(!plain)) {
    SendReplyWithHead(call, reply, size);
  } else {
    SendPlainReply({.type = FrameType::kResponse, .stream = call.stream, .priority = call.priority}, reply,
                   size);
  }
  return size;
}

void ServerSession::SendPlainReply(const MessageFrames& frames, const google::protobuf::MessageLite& reply,
                                   size_t size) {
  if (size > kMaxGathered) {
    SendLarge(frames, reply, size, *connection_);
  } else if (AppendMessage(frames, reply, size, *connection_) != Connection::Appended::kFlush) {
    // The loop writes it at the end of its batch, or somebody is writing already.
  } else if (Executor::MoreWaiting()) {
    connection_->FlushAppendedOnLoop();
  } else {
    connection_->FlushAppended();
  }
}

void ServerSession::SendReplyWithHead(ServerCall& call, const google::protobuf::MessageLite& reply,
                                      size_t size) {
  if (size > max_message_.load(std::memory_order_relaxed)) {
    return SendStatus(
        call, absl::ResourceExhaustedError(absl::StrCat("the reply of ", call.method->name(), " is ", size,
                                                        " bytes, the client's limit is ",
                                                        max_message_.load(std::memory_order_relaxed))));
  }
  const ServerContext& context = call.context();
  absl::StatusOr<std::string> head = EncodeResponseHead(
      call.context().initial_metadata(), call.context().trailing_metadata(),
      NeedsLength(size, context.has_reply_metadata()) ? size : 0, max_head_.load(std::memory_order_relaxed));
  if (!head.ok()) return SendStatus(call, head.status());
  SendMessage({.type = FrameType::kResponse,
               .stream = call.stream,
               .priority = call.priority,
               .head = absl::string_view(*head)},
              reply, size, *connection_);
}

void ServerSession::SendStatus(ServerCall& call, const absl::Status& status) {
  WireStatus wire{.status = status, .not_executed = call.not_executed};
  wire.initial_metadata = std::move(call.context().initial_metadata());
  wire.trailing_metadata = std::move(call.context().trailing_metadata());
  SendHead({.type = FrameType::kStatus,
            .flags = transport::kEndStream,
            .attr = transport::MakeAttr(call.priority, 0),
            .stream = call.stream},
           EncodeStatusHead(wire, max_head_.load(std::memory_order_relaxed)), *connection_);
}

// Answers a REQUEST that no call was made of.
void ServerSession::Refuse(const transport::FrameHeader& request, const absl::Status& why) {
  SendHead({.type = FrameType::kStatus,
            .flags = transport::kEndStream,
            .attr = transport::MakeAttr(AnswerPriority(request), 0),
            .stream = request.stream},
           EncodeStatusHead({.status = why, .not_executed = true}, max_head_.load(std::memory_order_relaxed)),
           *connection_);
}

// ---------------------------------------------------------------- The end

void ServerSession::Drain() {
  loop_.AssertInLoop();
  if (std::exchange(draining_, true)) return;
  if (greeted_) {
    wire::DrainHead head;
    head.set_last_ordinal(requests_);
    head.set_message("the server shuts down");
    SendHead({.type = FrameType::kDrain}, head.SerializeAsString(), *connection_);
  }
  SetLastCalls();
  CloseIfDone();
}

// The client writes no more: what it has asked for whole is answered.
void ServerSession::OnEndOfInput() {
  SetLastCalls();
  EndArriving(absl::CancelledError("the client stopped writing in the middle of the request"));
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
  if (in_flight() == 0) connection_->CloseAfterFlush(absl::OkStatus());
}

void ServerSession::OnMalformedInput(const absl::Status& why, bool tell_peer) {
  if (tell_peer) {
    SendHead({.type = FrameType::kStatus, .flags = transport::kEndStream},
             EncodeStatusHead({.status = why}, max_head_.load(std::memory_order_relaxed)), *connection_);
  }
  connection_->CloseAfterFlush(why);
}

void ServerSession::Close(absl::Status why) { connection_->Close(std::move(why)); }

void ServerSession::OnClosed(const absl::Status& why) {
  ForEachSlot([](const Slot& slot) {
    ServerCall* call = slot.call.load(std::memory_order_acquire);
    if (call != nullptr) call->context().Cancel();
  });
  EndArriving(why);
  for (Executor::Task* task : std::exchange(to_execute_, {})) {
    static_cast<ServerCall*>(task)->End(absl::CancelledError("the connection is closed"));
  }
  shared_->OnSessionEnded(*this);
  self_ = shared_from_this();
  const uint64_t ends = ends_.fetch_or(kClosed) / kOneEnd;
  if (ends == begun_) self_.reset();
}

// Ends the calls whose requests will never be whole.
void ServerSession::EndArriving(const absl::Status& why) {
  std::vector<ServerCall*> arriving;
  ForEachSlot([&arriving](Slot& slot) {
    ServerCall* call = slot.call.load(std::memory_order_acquire);
    if (std::exchange(slot.arriving, false) && call != nullptr) arriving.push_back(call);
  });
  for (ServerCall* call : arriving) {
    call->not_executed = true;
    call->End(why.ok() ? absl::CancelledError("the connection is closed") : why);
  }
}

}  // namespace ferry
