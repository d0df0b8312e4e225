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

// Hands a call to its handler, which may end it at once.
void StartHandler(ServedMethod& method, ServerCall& call) {
  const CallScope::Use scope(&call.context());
  method.method.start(method.service, call);
}

}  // namespace

ServerSession::ServerSession(std::shared_ptr<Shared> shared, transport::EventLoop& loop, size_t loop_index,
                             std::unique_ptr<transport::ByteStream> stream)
    : shared_(std::move(shared)),
      loop_(loop),
      loop_index_(loop_index),
      connection_(Connection::Create(shared_->connection, loop, *this, std::move(stream))),
      place_{&connection_->peer(), &loop, shared_->executor, shared_->coroutines, this},
      output_(*connection_, shared_->settings.features),
      request_budget_(shared_->max_request_bytes_per_connection, &shared_->request_budget),
      deadline_timer_([this] { OnDeadline(); }),
      flood_guard_(shared_->max_control_frames_per_second) {}

void ServerSession::Begin() {
  loop_.AssertInLoop();
  connection_->Start();
}

void ServerSession::OnPreface() {
  greeted_ = true;
  SendHead({.type = FrameType::kSettings}, EncodeSettings(shared_->settings), *connection_);
  if (!draining_) return;
  SendDrain();
  CloseIfDone();
}

// ---------------------------------------------------------------- What arrives

// The way of nearly every request; anything else about one is for the functions behind it.
void ServerSession::OnRequest(const Frame& frame) {
  ++requests_;
  const RequestPrefix prefix = DecodeRequestPrefix(frame.body.data());
  ServedMethod* method = IsAdmissible(frame.header) ? FindMethod(prefix.method) : nullptr;
  const bool begins_stream = !frame.header.has(transport::kEndStream | transport::kMore);
  if (ABSL_PREDICT_FALSE(method == nullptr || begins_stream != method->takes_stream)) {
    return OnInadmissible(frame);
  }
  ServerSlot* slot = FreeSlot(frame.header.stream);
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
    call.context().Begin(place_);
  } else {
    call.context().Begin(place_, ReadTime(), TimeoutFromWire(prefix.timeout_us));
  }
  const absl::string_view message = frame.message();
  if (ABSL_PREDICT_FALSE(method->streams)) OpenStream(*slot, call);
  if (frame.header.head > 0 || frame.header.has(transport::kMore) || message.size() > kMaxUncharged) {
    slot->arriving |= frame.header.has(transport::kMore);
    return BeginLarge(frame, call);
  }
  if (ABSL_PREDICT_FALSE(!Parse(message, call))) return;
  Admit(call);
}

// Begins a call that has metadata, or whose message is large or comes in fragments.
void ServerSession::BeginLarge(const Frame& frame, ServerCall& call) {
  const absl::string_view message = frame.message();
  absl::Status status = ReadHead(frame, call);
  if (status.ok() && call.request_fragments.active()) {
    const size_t credit = call.request_fragments.TakeCredit(WindowCost(frame.header),
                                                            shared_->settings.initial_stream_window / 2);
    if (credit > 0) Grant(frame.header.stream, credit);
    return;
  }
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
ServerSlot* ServerSession::FreeSlot(StreamId stream) {
  ServerSlot& slot = slots_.Make(stream.slot());
  // A call's slot is in use until the last of its answer is sent.
  const bool answering = output_.waiting_bytes() > 0 && output_.waiting(slot.stream);
  if (ABSL_PREDICT_FALSE(slot.call.load(std::memory_order_acquire) != nullptr || answering)) {
    BreakForSlotInUse(stream);
    return nullptr;
  }
  slot.stream = stream;
  slot.used = true;
  slot.arriving = false;
  if (ABSL_PREDICT_FALSE(slot.messages != nullptr)) slot.messages = nullptr;
  return &slot;
}

// Gives a call of a method with a stream, of requests or replies, the means for it.
void ServerSession::OpenStream(ServerSlot& slot, ServerCall& call) {
  auto stream =
      std::make_shared<Stream>(loop_, shared_->settings.initial_stream_window, shared_->settings.max_message);
  // Asked for while the handler writes: then the call is in flight.
  auto first_head = [this, &call] {
    call.initial_metadata_sent = true;
    return output_.EncodeFirstHead(call.context().initial_metadata());
  };
  stream->Open(shared_from_this(), call.stream, call.priority, first_head);
  slot.arriving = call.method->takes_stream;
  if (!slot.arriving) stream->queue().End();
  slot.messages = stream;
  call.messages = std::move(stream);
  // Its handler may wait for its client, and one that does not run any more says nothing when the time is
  // over.
  call.context().WatchDeadline();
}

// Reads what the head says, and begins a message that comes in fragments: its head says how long it is, if it
// has one or not.
absl::Status ServerSession::ReadHead(const Frame& frame, ServerCall& call) {
  if (frame.header.head == 0 && !frame.header.has(transport::kMore)) return absl::OkStatus();
  wire::RequestHead head;
  absl::Status status = ParseHead(frame.head(), "request head", head);
  if (status.ok()) status = ReadMetadata(head.metadata(), call.context().mutable_request_metadata());
  if (!status.ok()) return status;
  const absl::StatusOr<int> attempt = ReadAttempt(head);
  if (!attempt.ok()) return attempt.status();
  call.context().set_attempt(*attempt);
  if (!frame.header.has(transport::kMore)) return absl::OkStatus();
  status = call.request_fragments.Begin(head.message_length(), shared_->settings.max_message, request_budget_,
                                        loop_.blocks());
  if (status.ok()) status = call.request_fragments.Append(frame.message());
  return status;
}

// ---------------------------------------------------------------- Running

// Hands a call whose request has arrived to its handler, now or through the executor.
void ServerSession::Admit(ServerCall& call) {
  if (call.request_fragments.active()) slots_[call.stream.slot()].arriving = false;
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
    if (inline_calls_++ == 0) first_inline_ = deadlines_seen_ ? ReadTime() : loop_.last_read_time();
    return StartHandler(method, call);
  }
  --calls_to_time_;
  const transport::Clock& clock = loop_.clock();
  const int64_t interruptions = clock.Interruptions();
  const transport::Instant start = clock.Now();
  if (!read_time_.has_value()) read_time_ = start;
  StartHandler(method, call);
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

// About when the bytes now being handled were read: the clock is looked at once for all of their calls, or
// not at all. Not the batch's start, for the handlers of other connections may have taken their time since.
transport::Instant ServerSession::ReadTime() {
  if (!read_time_.has_value()) {
    // Nobody knew before the first deadline of all that it would be needed.
    read_time_ = inline_calls_ > 0 && !deadlines_seen_ ? first_inline_ : loop_.ReadTime();
    deadlines_seen_ = true;
  }
  return *read_time_;
}

void ServerSession::OnEndOfRead() {
  if (inline_calls_ > 0) {
    const int64_t taken = loop_.ReadTime().nanos - first_inline_.nanos;
    // An eighth, so that one slow call among quick ones shows.
    const int64_t budget = absl::ToInt64Nanoseconds(shared_->methods.inline_guard().budget) / 8;
    if (taken / static_cast<int64_t>(inline_calls_) > budget) {
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
    // The handler may take its time.
    call.request_fragments.FreeBytes();
  }
  StartHandler(*call.method, call);
}

// ---------------------------------------------------------------- Ending

void ServerSession::EndCall(ServerCall& call, absl::Status status) {
  // The call is the other process's, which has the handler too.
  if (ABSL_PREDICT_FALSE(loop_.fork_guard().forked())) return;
  // What the handler does from now on is for nobody.
  if (CallScope::Current() == &call.context()) CallScope::Exchange(nullptr);
  bool unwanted = false;
  if (ABSL_PREDICT_FALSE(call.messages != nullptr)) {
    absl::Status failure = EndStream(call);
    unwanted = !failure.ok();
    if (unwanted) status = std::move(failure);
  }
  if (ABSL_PREDICT_FALSE(call.context().cancelled())) {
    status = WhyUnwanted(call, status);
    unwanted = true;
  }
  call.context().ForgetOnCancel();
  // Before the answer is written: the client may use the slot again as soon as it has it.
  std::exchange(call.place, nullptr)->store(nullptr, std::memory_order_release);
  size_t bytes = 0;
  if (closed()) {
    // Nobody is there to be told.
  } else if (ABSL_PREDICT_TRUE(status.ok())) {
    bytes = output_.SendReply(call);
  } else {
    output_.SendStatus(call, status, /*at_once=*/unwanted);
  }
  bytes = std::max({bytes, call.request_fragments.total(), call.charged_bytes});
  if (call.charged_bytes > 0) request_budget_.GiveBack(std::exchange(call.charged_bytes, 0));
  const bool in_loop = loop_.InLoop();
  call.recycler->Return(call, bytes, in_loop);
  CountEnd(in_loop);
}

// Ends a call's stream, and says what was wrong with it.
absl::Status ServerSession::EndStream(ServerCall& call) {
  absl::Status failure = call.messages->failure();
  call.messages->End();
  call.messages->StopReading();
  call.messages = nullptr;
  return failure;
}

// How a call ends that nobody waits for any more, and that would have ended with `status`.
absl::Status ServerSession::WhyUnwanted(ServerCall& call, const absl::Status& status) const {
  std::atomic<uint64_t>& counter = call.not_executed ? shared_->calls_dropped : shared_->answers_dropped;
  counter.fetch_add(1, std::memory_order_relaxed);
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

}  // namespace ferry
