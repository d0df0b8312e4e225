#include "ferry/rpc/client_session.h"

#include <limits>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/transport/error_number.h"

namespace ferry {

using transport::Connection;
using transport::Frame;
using transport::FrameType;
using transport::StreamId;

namespace {

// Puts what came with the call's end where the caller wants it. The initial metadata may have come before,
// with the first of a stream of replies.
void KeepMetadata(ReplyMetadata metadata, ClientCall& call) {
  if (call.reply_metadata == nullptr) return;
  if (!metadata.initial.empty()) call.reply_metadata->initial = std::move(metadata.initial);
  call.reply_metadata->trailing = std::move(metadata.trailing);
}

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
  KeepMetadata(std::move(metadata), call);
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
      sender_(*connection_, options.settings.features),
      max_message_(WireSettings().max_message),
      max_head_(WireSettings().max_head),
      flood_guard_(options.max_control_frames_per_second),
      keepalive_(
          options.keepalive, loop, *connection_, [this] { return has_calls(); }, [this] { OnSilence(); }),
      fragment_budget_(options.max_fragment_bytes),
      deadline_timer_([this] { OnDeadline(); }) {}

void ClientSession::Begin() {
  loop_.AssertInLoop();
  began_ = loop_.now();
  connection_->Start();
  SendHead({.type = FrameType::kSettings}, EncodeSettings(options_.settings), *connection_);
  keepalive_.Begin();
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
  // The call may end as soon as its request is appended.
  std::shared_ptr<Stream> messages;
  if (ABSL_PREDICT_FALSE(call.messages != nullptr)) messages = call.messages->shared_from_this();
  // Its handles may be on any thread: unless that has been so, we are the loop.
  if (ABSL_PREDICT_FALSE(messages != nullptr) && !shared_) Share();
  bool wake_loop;
  Connection::Appended appended;
  {
    transport::SharedLock lock(mutex_, shared_);
    if (ABSL_PREDICT_FALSE(messages != nullptr)) has_streamed_ = true;
    if (closed_) return Started::kClosed;
    const StreamId stream = table_.Open(call, max_streams_ - 1);
    if (stream == transport::kConnectionStream) {
      wants_slot_ = true;
      return Started::kFull;
    }
    frames.stream = stream;
    call.stream = stream;
    call.writes_before = connection_->writes_begun();
    appended = append(frames);
    if (appended == Connection::Appended::kClosed) {
      table_.Take(stream);
      return Started::kClosed;
    }
    wake_loop = deadlines_.Add(call);
  }
  if (appended == Connection::Appended::kFlush) connection_->FlushAppended();
  if (wake_loop) CheckDeadlinesAt(deadline);
  if (ABSL_PREDICT_FALSE(messages != nullptr)) messages->Open(shared_from_this(), frames.stream, 0);
  return Started::kYes;
}

ClientSession::Started ClientSession::Start(ClientCall& call, const google::protobuf::MessageLite& request,
                                            size_t size) {
  if (ABSL_PREDICT_FALSE(call.method->client_streaming)) return StartStream(call);
  if (ABSL_PREDICT_FALSE(size > kMaxGathered)) return StartEncoded(call, Encode(request, size, *connection_));
  call.request_size = size;
  if (call.lasting_request != nullptr) {
    return StartWith(call, [&](const MessageFrames& frames) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      call.ordinal = ++sender_.requests;
      return AppendMessage(frames, request, size, *connection_);
    });
  }
  // Encoded where it is kept, and copied from there to the output once the rest is done: a processor waits
  // for bytes that it reads just after they were written.
  char* const kept = call.request_copy.Prepare(size);
  request.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(kept));
  return StartWith(call, [&](const MessageFrames& frames) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    call.ordinal = ++sender_.requests;
    return AppendCopy(frames, absl::string_view(kept, size), *connection_);
  });
}

ClientSession::Started ClientSession::StartEncoded(ClientCall& call, EncodedMessage request) {
  return StartWith(call, [&](const MessageFrames& frames) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (call.lasting_request == nullptr) call.request_block = request.block;
    call.request_size = request.bytes.size();
    if (request.bytes.size() <= FragmentLimit(frames.head.size())) {
      call.ordinal = ++sender_.requests;
      return AppendMessage(frames, request, *connection_);
    }
    // Until its first frame is appended.
    call.ordinal = std::numeric_limits<uint64_t>::max();
    const MessageSender::Added added = sender_.Add(
        {.frames = frames, .encoded = std::move(request), .end_stream = true, .ordinal = &call.ordinal});
    if (added == MessageSender::Added::kClosed) return Connection::Appended::kClosed;
    return sender_.TakeFlush() ? Connection::Appended::kFlush : Connection::Appended::kDone;
  });
}

// Begins a call with a stream of requests.
ClientSession::Started ClientSession::StartStream(ClientCall& call) {
  return StartWith(call, [&](const MessageFrames& frames) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    call.ordinal = ++sender_.requests;
    return connection_->Append([&](Connection::Output& output) {
      WriteBeforeMessage(frames, 0, 0, output.Append(SizeBeforeMessage(frames)));
    });
  });
}

ClientSession::Started ClientSession::StartWaiting(ClientCall& call) {
  if (call.method->client_streaming) return StartStream(call);
  // The call may end, and be used for another, as soon as its request is appended.
  EncodedMessage request{.block = call.request_block};
  if (request.block) request.bytes = absl::string_view(request.block.data(), call.request_size);
  call.request_block = transport::Block();
  const transport::Block block = request.block;
  const Started started = StartEncoded(call, std::move(request));
  if (started != Started::kYes) call.request_block = block;
  return started;
}

// ---------------------------------------------------------------- What arrives

void ClientSession::OnCallFrame(const Frame& frame) {
  if (frame.header.type == FrameType::kStatus) return OnStatus(frame);
  if (frame.header.type == FrameType::kResponse && !frame.header.has(transport::kMore))
    return OnResponse(frame);
  ClientCall* call;
  {
    transport::SharedLock lock(mutex_, shared_);
    call = table_.Find(frame.header.stream);
  }
  if (call == nullptr) {
    // Of a call that has ended for us; the server may be ending it only now, and must not stall on the way.
    if (frame.header.has(transport::kEndStream)) {
      Take(frame.header.stream);
    } else if (IsCounted(frame.header)) {
      GrantLate(frame.header);
    }
    return CheckKnown(frame);
  }
  if (call->method->server_streaming) return OnStreamed(frame, *call);
  OnFragment(frame, *call);
}

// Grants anew what frames of a call that has ended for us take of its window: half a window at a time, for
// the server takes only so many WINDOWs within a second (PROTOCOL.md [P14.5]).
void ClientSession::GrantLate(const transport::FrameHeader& header) {
  LateCredit& late = late_credit_[header.stream.slot()];
  if (late.stream != header.stream) late = {.stream = header.stream};
  late.bytes += WindowCost(header);
  if (late.bytes < options_.settings.initial_stream_window / 2) return;
  Grant(header.stream, late.bytes);
  late_credit_.erase(header.stream.slot());
}

// Breaks the connection if a frame that found no call is on a slot that was never used.
void ClientSession::CheckKnown(const Frame& frame) {
  bool known;
  {
    transport::SharedLock lock(mutex_, shared_);
    known = table_.Knows(frame.header.stream);
  }
  if (known) return;
  Break(absl::InternalError(absl::StrCat(transport::FrameTypeName(frame.header.type), " frame is on slot ",
                                         frame.header.stream.slot(), ", which was never used")));
}

// Takes the call that the server has ended out of the table; nullptr if it has ended for us already.
ClientCall* ClientSession::Take(StreamId stream) {
  ClientCall* call;
  bool dropped = false;
  bool tell_owner;
  {
    transport::SharedLock lock(mutex_, shared_);
    call = table_.Take(stream);
    if (call != nullptr) {
      deadlines_.Remove(*call);
      // An answer may come before all of the question is sent.
      dropped = !sender_.empty();
      if (ABSL_PREDICT_FALSE(dropped)) sender_.Drop(stream);
    }
    tell_owner = std::exchange(wants_slot_, false);
  }
  answered_ = true;
  if (tell_owner) owner_.OnSlotFree();
  if (ABSL_PREDICT_FALSE(dropped)) AfterTakingOut();
  return call;
}

void ClientSession::OnResponse(const Frame& frame) {
  ClientCall* call = Take(frame.header.stream);
  if (ABSL_PREDICT_FALSE(call == nullptr)) return CheckKnown(frame);
  const bool plain = frame.header.head == 0 && frame.header.length <= options_.settings.max_message &&
                     !call->reply_fragments.active();
  if (ABSL_PREDICT_FALSE(!plain)) {
    if (absl::Status status = CheckResponse(frame, *call); !status.ok()) {
      call->execution = Execution::kExecuted;
      return call->End(std::move(status));
    }
  }
  if (ABSL_PREDICT_TRUE(call->ParseReply(frame.message()))) return call->End(absl::OkStatus());
  call->execution = Execution::kExecuted;
  call->End(ReplyDoesNotParse(frame.message().size()));
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

void ClientSession::OnFragment(const Frame& frame, ClientCall& call) {
  const StreamId stream = frame.header.stream;
  const bool last = frame.header.has(transport::kEndStream);
  if (!last && !frame.header.has(transport::kMore)) {
    return Break(absl::InternalError("MESSAGE frame has neither MORE nor END_STREAM in a unary call"));
  }
  MessageAssembly& fragments = call.reply_fragments;
  absl::Status status;
  if (frame.header.type == FrameType::kResponse) {
    absl::StatusOr<uint64_t> length = ReadResponseHead(frame, call);
    status = length.status();
    if (status.ok() && fragments.active()) status = absl::InternalError("RESPONSE frame came twice");
    if (status.ok())
      status = fragments.Begin(*length, options_.settings.max_message, fragment_budget_, loop_.blocks());
  } else if (!fragments.active()) {
    status = absl::InternalError("MESSAGE frame came before RESPONSE");
  }
  if (status.ok()) status = fragments.Append(frame.message());
  if (status.ok() && last && !fragments.whole()) {
    status = fragments.TooShort();
  }
  if (!last && !status.ok()) return Abandon(stream, std::move(status));
  if (!last) {
    const size_t credit =
        fragments.TakeCredit(WindowCost(frame.header), options_.settings.initial_stream_window / 2);
    if (credit > 0) Grant(stream, credit);
    return;
  }
  // The server has ended the call, well or not: it need not be told to stop.
  Take(stream);
  if (status.ok()) {
    const size_t size = fragments.total();
    const bool read = size == 0 ? call.ParseReply({}) : call.TakeLargeReply(fragments.Take(), size);
    if (!read) status = ReplyDoesNotParse(size);
  }
  fragments.Reset();
  call.execution = Execution::kExecuted;
  call.End(std::move(status));
}

void ClientSession::OnStatus(const Frame& frame) {
  ClientCall* call = Take(frame.header.stream);
  if (call == nullptr) return CheckKnown(frame);
  call->reply_fragments.Reset();
  call->execution = Execution::kExecuted;
  absl::StatusOr<WireStatus> decoded = DecodeStatusHead(frame.head());
  if (!decoded.ok()) return call->End(decoded.status());
  if (decoded->not_executed) call->execution = Execution::kNotSent;
  // What is known of this call is ours to say.
  decoded->status.ErasePayload(kCallFailureUrl);
  transport::TakeErrorNumber(decoded->status);
  if (call->router != nullptr) call->routing->retry_after = decoded->retry_after;
  // It was sent before we knew how many streams the server takes (PROTOCOL.md [P9.6]).
  if (decoded->not_executed && IsBeyondLimit(frame.header.stream)) return GiveBack({call}, decoded->status);
  KeepMetadata({std::move(decoded->initial_metadata), std::move(decoded->trailing_metadata)}, *call);
  call->End(std::move(decoded->status));
}

// Whether the server does not take streams of this slot.
bool ClientSession::IsBeyondLimit(StreamId stream) {
  transport::SharedLock lock(mutex_, shared_);
  return stream.slot() >= max_streams_;
}

}  // namespace ferry
