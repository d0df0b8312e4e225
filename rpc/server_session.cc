#include "ferry/rpc/server_session.h"

#include <algorithm>
#include <utility>

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

absl::Status DoesNotParse(size_t bytes) {
  return absl::InternalError(absl::StrCat("request of ", bytes, " bytes does not parse"));
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

void ServerSession::OnFrame(const Frame& frame) {
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

void ServerSession::OnRequest(const Frame& frame) {
  ++requests_;
  if (absl::Status slot = CheckSlot(frame.header.stream); !slot.ok()) return Break(slot);
  ServedMethod* method = nullptr;
  const absl::Status admissible = CheckAdmissible(frame, method);
  ServerCall* call = admissible.ok() ? &method->recyclers[loop_index_]->Take() : nullptr;
  if (!Occupy(frame, call)) {
    if (call != nullptr) call->recycler->Return(*call, 0);
    return Break(absl::InternalError(
        absl::StrCat("REQUEST frame is on slot ", frame.header.stream.slot(), ", which is in use")));
  }
  if (call == nullptr) {
    // What is beyond the last_ordinal of our DRAIN is not answered.
    if (!draining_) Refuse(frame.header, admissible);
    return;
  }
  call->method = method;
  Begin(frame, *call);
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

// Why a call cannot be taken, or OK and its method.
absl::Status ServerSession::CheckAdmissible(const Frame& frame, ServedMethod*& method) {
  if (draining_) return absl::UnavailableError("the server takes no more calls");
  if (frame.header.stream.slot() >= shared_->settings.max_streams) {
    return absl::ResourceExhaustedError(absl::StrCat("stream slot is ", frame.header.stream.slot(),
                                                     ", limit is ", shared_->settings.max_streams - 1));
  }
  if (!frame.header.has(transport::kEndStream) && !frame.header.has(transport::kMore)) {
    return absl::UnimplementedError("this server has no methods with a stream of requests");
  }
  if (frame.header.message_size() > shared_->settings.max_message) {
    return absl::ResourceExhaustedError(absl::StrCat("message is ", frame.header.message_size(),
                                                     " bytes, limit is ", shared_->settings.max_message));
  }
  const uint64_t id = DecodeRequestPrefix(frame.prefix().data()).method;
  method = shared_->methods.Find(id);
  if (method != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("no method has id 0x", absl::Hex(id, absl::kZeroPad16)));
}

// Puts `call`, or nullptr for one that is refused, into the slot of a REQUEST. False if another is in it.
bool ServerSession::Occupy(const Frame& frame, ServerCall* call) {
  const StreamId stream = frame.header.stream;
  // Refused, and remembered nowhere.
  if (stream.slot() >= shared_->settings.max_streams) return true;
  absl::MutexLock lock(&mutex_);
  if (slots_.size() <= stream.slot()) slots_.resize(stream.slot() + 1);
  Slot& slot = slots_[stream.slot()];
  if (slot.call != nullptr) return false;
  slot = {.stream = stream,
          .call = call,
          .used = true,
          .arriving = call != nullptr && frame.header.has(transport::kMore)};
  return true;
}

// Makes `call` the call of a REQUEST, and admits it if that is whole.
void ServerSession::Begin(const Frame& frame, ServerCall& call) {
  in_flight_.fetch_add(1);
  call.owner = shared_from_this();
  call.stream = frame.header.stream;
  call.priority = AnswerPriority(frame.header);
  const absl::Duration timeout = TimeoutFromWire(DecodeRequestPrefix(frame.prefix().data()).timeout_us);
  const transport::Instant now = timeout == absl::InfiniteDuration() ? loop_.now() : ReadTime();
  call.context().Begin(connection_->peer(), loop_.clock(), now, timeout);
  absl::Status status = ReadHead(frame, call);
  if (status.ok() && call.request_fragments.active()) return;
  if (status.ok()) status = ReadRequest(frame.message(), call);
  if (status.ok()) return Admit(call);
  call.not_executed = true;
  call.End(std::move(status));
}

// Parses a request that came in one frame, and charges it to the budget if it is not small.
absl::Status ServerSession::ReadRequest(absl::string_view message, ServerCall& call) {
  if (message.size() > kMaxUncharged) {
    if (!request_budget_.Take(message.size())) return request_budget_.Exhausted(message.size());
    call.charged_bytes = message.size();
  }
  if (call.request_message().ParseFromArray(message.data(), static_cast<int>(message.size())))
    return absl::OkStatus();
  return DoesNotParse(message.size());
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
    absl::MutexLock lock(&mutex_);
    if (slot < slots_.size() && slots_[slot].used) return true;
    valid = absl::InternalError(absl::StrCat(transport::FrameTypeName(frame.header.type),
                                             " frame is on slot ", slot, ", which was never used"));
  }
  Break(valid);
  return false;
}

void ServerSession::OnFragment(const Frame& frame) {
  if (!IsForCall(frame)) return;
  ServerCall* call = nullptr;
  bool arriving;
  {
    absl::MutexLock lock(&mutex_);
    const Slot& slot = slots_[frame.header.stream.slot()];
    if (slot.stream == frame.header.stream) call = slot.call;
    arriving = slot.arriving;
  }
  // A late frame of a call that has ended.
  if (call == nullptr) return;
  if (!arriving) {
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
  ServerCall* arriving = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    const Slot& slot = slots_[frame.header.stream.slot()];
    if (slot.call == nullptr || slot.stream != frame.header.stream) return;
    // Under the mutex, so that the call cannot end and become another one meanwhile.
    slot.call->context().Cancel();
    if (slot.arriving) arriving = slot.call;
  }
  if (arriving == nullptr) return;
  arriving->not_executed = true;
  arriving->End(absl::CancelledError("the client cancelled the call"));
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
  if (call.request_fragments.active()) {
    absl::MutexLock lock(&mutex_);
    slots_[call.stream.slot()].arriving = false;
  }
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
  const transport::Instant start = loop_.clock().Now();
  method.method.start(method.service, call);
  if (method.guard.Report(start, loop_.clock().Now())) {
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
    const absl::string_view bytes = call.request_fragments.bytes();
    const bool parsed = call.request_message().ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    if (!parsed) {
      call.not_executed = true;
      return call.End(DoesNotParse(bytes.size()));
    }
  }
  call.method->method.start(call.method->service, call);
}

// ---------------------------------------------------------------- Ending

void ServerSession::EndCall(ServerCall& call, absl::Status status) {
  // Keeps the session, and with it the recycler, to the end of this.
  const std::shared_ptr<Owner> self = std::move(call.owner);
  if (call.context().expired()) {
    status = absl::DeadlineExceededError(
        absl::StrCat("deadline of ", absl::FormatDuration(call.context().timeout()),
                     " exceeded before the handler ", call.not_executed ? "started" : "ended"));
  } else if (status.ok() && call.context().cancelled()) {
    status = absl::CancelledError("the client cancelled the call");
  }
  bool closed;
  {
    absl::MutexLock lock(&mutex_);
    closed = closed_;
    // Before the answer is written: the client may use the slot again as soon as it has it.
    slots_[call.stream.slot()].call = nullptr;
    slots_[call.stream.slot()].arriving = false;
  }
  size_t bytes = std::max(call.request_fragments.total(), call.charged_bytes);
  if (closed) {
    // Nobody is there to be told, and the loop may be gone.
  } else if (status.ok()) {
    bytes = std::max(bytes, SendReply(call));
  } else if (!closed) {
    SendStatus(call, status);
  }
  request_budget_.GiveBack(std::exchange(call.charged_bytes, 0));
  call.recycler->Return(call, bytes);
  // After the answer is sent: who sees none in flight may finish writing. Pairs with last_calls_ and
  // in_flight_ in CloseIfDone: one of the two sees the other.
  const bool last = in_flight_.fetch_sub(1) == 1 && last_calls_.load();
  if (last && !closed) loop_.Post([session = shared_from_this()] { session->CloseIfDone(); });
}

size_t ServerSession::SendReply(ServerCall& call) {
  const google::protobuf::MessageLite& reply = call.reply_message();
  const size_t size = reply.ByteSizeLong();
  if (size > max_message_.load(std::memory_order_relaxed)) {
    SendStatus(call, absl::ResourceExhaustedError(absl::StrCat(
                         "the reply of ", call.method->name(), " is ", size, " bytes, the client's limit is ",
                         max_message_.load(std::memory_order_relaxed))));
    return size;
  }
  MessageFrames frames{.type = FrameType::kResponse, .stream = call.stream, .priority = call.priority};
  std::string head;
  const ServerContext& context = call.context();
  if (context.has_reply_metadata() || size > kMaxFragment) {
    absl::StatusOr<std::string> encoded =
        EncodeResponseHead(call.context().initial_metadata(), call.context().trailing_metadata(),
                           NeedsLength(size, context.has_reply_metadata()) ? size : 0,
                           max_head_.load(std::memory_order_relaxed));
    if (!encoded.ok()) {
      SendStatus(call, encoded.status());
      return size;
    }
    head = *std::move(encoded);
    frames.head = absl::string_view(head);
  }
  SendMessage(frames, reply, size, *connection_);
  return size;
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
  last_calls_.store(true);
  CloseIfDone();
}

// The client writes no more: what it has asked for whole is answered.
void ServerSession::OnEndOfInput() {
  last_calls_.store(true);
  EndArriving(absl::CancelledError("the client stopped writing in the middle of the request"));
  CloseIfDone();
}

void ServerSession::CloseIfDone() {
  if (in_flight_.load() == 0) connection_->CloseAfterFlush(absl::OkStatus());
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
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    for (Slot& slot : slots_) {
      if (slot.call != nullptr) slot.call->context().Cancel();
    }
  }
  EndArriving(why);
  for (Executor::Task* task : std::exchange(to_execute_, {})) {
    static_cast<ServerCall*>(task)->End(absl::CancelledError("the connection is closed"));
  }
  shared_->OnSessionEnded(*this);
}

// Ends the calls whose requests will never be whole.
void ServerSession::EndArriving(const absl::Status& why) {
  std::vector<ServerCall*> arriving;
  {
    absl::MutexLock lock(&mutex_);
    for (const Slot& slot : slots_) {
      if (slot.arriving) arriving.push_back(slot.call);
    }
  }
  for (ServerCall* call : arriving) {
    call->not_executed = true;
    call->End(why.ok() ? absl::CancelledError("the connection is closed") : why);
  }
}

}  // namespace ferry
