#include "ferry/rpc/server_output.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/method_table.h"

namespace ferry {

using transport::Connection;
using transport::FrameType;
using transport::StreamId;

namespace {

// What a message that waits costs beside its bytes, about.
constexpr size_t kWaitingCost = 1024;

}  // namespace

ServerOutput::ServerOutput(Connection& connection, uint64_t features)
    : connection_(connection),
      max_message_(WireSettings().max_message),
      max_head_(WireSettings().max_head),
      sender_(connection, features) {}

// Lets `f` use the sender, and does what that asks for. Returns what `f` returns.
template <typename F>
auto ServerOutput::WithSender(F&& f) {
  return UseSender(
      mutex_, /*shared=*/true, sender_,
      [&](MessageSender& sender) {
        struct Note {
          ServerOutput& output;
          MessageSender& sender;
          ~Note() {
            output.waiting_bytes_.store(sender.waiting_bytes() + kWaitingCost * sender.waiting_streams(),
                                        std::memory_order_relaxed);
          }
        };
        const Note note{*this, sender};
        return f(sender);
      },
      [this] { FlushAfter(Connection::Appended::kFlush); });
}

void ServerOutput::SetPeer(const WireSettings& settings) {
  max_message_.store(settings.max_message, std::memory_order_relaxed);
  max_head_.store(settings.max_head, std::memory_order_relaxed);
  const bool counting = WithSender([&](MessageSender& sender) {
    sender.SetPeer(settings);
    return sender.counting();
  });
  counting_.store(counting, std::memory_order_relaxed);
}

// ---------------------------------------------------------------- Answers

// A reply with metadata, or a large one.
void ServerOutput::SendOtherReply(MessageFrames frames, ServerCall& call,
                                  const google::protobuf::MessageLite& reply, size_t size) {
  if (size > max_message()) {
    return SendStatus(
        call, absl::ResourceExhaustedError(absl::StrCat("the reply of ", call.method->name(), " is ", size,
                                                        " bytes, the client's limit is ", max_message())));
  }
  absl::StatusOr<std::string> head;
  if (const bool has_metadata = call.context().has_reply_metadata(); has_metadata || size > kMaxFragment) {
    head = EncodeResponseHead(call.context().initial_metadata(), call.context().trailing_metadata(),
                              NeedsLength(size, has_metadata) ? size : 0,
                              max_head_.load(std::memory_order_relaxed));
    if (!head.ok()) return SendStatus(call, head.status());
    frames.head = *head;
  }
  if (size <= kMaxGathered) return FlushAfter(AppendMessage(frames, reply, size, connection_));
  EncodedMessage encoded = Encode(reply, size, connection_);
  if (size <= FragmentLimit(frames.head.size())) {
    return FlushAfter(AppendMessage(frames, encoded, connection_));
  }
  WithSender([&](MessageSender& sender) {
    sender.Add({.frames = frames, .encoded = std::move(encoded), .end_stream = true});
  });
}

void ServerOutput::SendEndOfReplies(ServerCall& call) {
  // What was to come before the first reply has gone with it, if there was one.
  const Metadata none;
  const Metadata& initial = call.initial_metadata_sent ? none : call.context().initial_metadata();
  std::string head;
  if (!initial.empty() || !call.context().trailing_metadata().empty()) {
    absl::StatusOr<std::string> encoded = EncodeResponseHead(initial, call.context().trailing_metadata(), 0,
                                                             max_head_.load(std::memory_order_relaxed));
    if (!encoded.ok()) return SendStatus(call, encoded.status());
    head = *std::move(encoded);
  }
  WithSender([&](MessageSender& sender) {
    // By now, though EndCall may have seen nothing of it: a message may be missing.
    const bool cancelled = sender.cancelled(call.stream);
    sender.AddEnd(cancelled ? FrameType::kStatus : FrameType::kResponse, call.stream, call.priority,
                  cancelled ? CancelledHead() : std::move(head));
  });
}

std::string ServerOutput::CancelledHead() const {
  return EncodeStatusHead({.status = absl::CancelledError("the client cancelled the call")},
                          max_head_.load(std::memory_order_relaxed));
}

void ServerOutput::SendStatus(ServerCall& call, const absl::Status& status, bool at_once) {
  WireStatus wire{
      .status = status, .not_executed = call.not_executed, .retry_after = call.context().retry_after()};
  if (!call.initial_metadata_sent) wire.initial_metadata = std::move(call.context().initial_metadata());
  wire.trailing_metadata = std::move(call.context().trailing_metadata());
  if (call.streams_replies) {
    WithSender([&](MessageSender& sender) {
      if (at_once) {
        sender.Drop(call.stream);
        sender.Pump();
      }
      sender.AddEnd(FrameType::kStatus, call.stream, call.priority,
                    EncodeStatusHead(wire, max_head_.load(std::memory_order_relaxed)));
    });
    return;
  }
  SendHead({.type = FrameType::kStatus,
            .flags = transport::kEndStream,
            .attr = transport::MakeAttr(call.priority, 0),
            .stream = call.stream},
           EncodeStatusHead(wire, max_head_.load(std::memory_order_relaxed)), connection_);
}

void ServerOutput::Refuse(const transport::FrameHeader& request, const absl::Status& why) {
  SendHead({.type = FrameType::kStatus,
            .flags = transport::kEndStream,
            .attr = transport::MakeAttr(AnswerPriority(request), 0),
            .stream = request.stream},
           EncodeStatusHead({.status = why, .not_executed = true}, max_head_.load(std::memory_order_relaxed)),
           connection_);
}

void ServerOutput::CancelAnswer(StreamId stream) {
  const bool had_end = WithSender([&](MessageSender& sender) {
    const bool dropped_end = sender.Cancel(stream);
    sender.Pump();
    return dropped_end;
  });
  if (!had_end) return;
  SendHead({.type = FrameType::kStatus, .flags = transport::kEndStream, .stream = stream}, CancelledHead(),
           connection_);
}

void ServerOutput::SendConnectionStatus(const absl::Status& why) {
  SendHead({.type = FrameType::kStatus, .flags = transport::kEndStream},
           EncodeStatusHead({.status = why}, max_head_.load(std::memory_order_relaxed)), connection_);
}

// ---------------------------------------------------------------- Streams

MessageSender::Added ServerOutput::SendStreamed(const MessageFrames& frames,
                                                const google::protobuf::MessageLite& message, size_t size,
                                                MessageSender::OnSent on_sent) {
  const MessageSender::Added added =
      WithSender([&](MessageSender& sender) { return sender.AddSmall(frames, message, size); });
  if (added != MessageSender::Added::kWaiting) return added;
  EncodedMessage encoded = Encode(message, size, connection_);
  return WithSender([&](MessageSender& sender) {
    return sender.Add({.frames = frames, .encoded = std::move(encoded), .on_sent = std::move(on_sent)});
  });
}

absl::Status ServerOutput::Enlarge(StreamId stream, uint32_t increment) {
  return WithSender([&](MessageSender& sender) { return sender.Enlarge(stream, increment); });
}

void ServerOutput::StopCounting() {
  counting_.store(false, std::memory_order_relaxed);
  WithSender([&](MessageSender& sender) { sender.StopCounting(); });
}

void ServerOutput::Pump() {
  WithSender([&](MessageSender& sender) { sender.Pump(); });
}

void ServerOutput::DropAll() {
  WithSender([&](MessageSender& sender) { sender.DropAll(); });
}

bool ServerOutput::waiting(StreamId stream) {
  transport::MutexLock lock(mutex_);
  return sender_.waiting(stream);
}

bool ServerOutput::idle() {
  transport::MutexLock lock(mutex_);
  return sender_.idle();
}

}  // namespace ferry
