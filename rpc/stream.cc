#include "ferry/rpc/stream.h"

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/wait_point.h"
#include "ferry/rpc/wire.h"

namespace ferry {

using transport::EventLoop;
using transport::FrameType;
using transport::MutexLock;
using transport::StreamId;

namespace {

absl::Status TooLong(size_t size, uint64_t limit) {
  return absl::ResourceExhaustedError(
      absl::StrCat("message is ", size, " bytes, the peer's limit is ", limit));
}

}  // namespace

absl::Status Stream::WouldStopTheLoop() {
  return absl::FailedPreconditionError(
      "a blocking read, write or wait on an event loop's thread; use the callback form there");
}

// ---------------------------------------------------------------- Writing

Stream::Wrote Stream::TryWrite(const google::protobuf::MessageLite& message) {
  if (ABSL_PREDICT_FALSE(forked())) return Wrote::kEnded;
  const size_t size = message.ByteSizeLong();
  std::shared_ptr<StreamCarrier> carrier;
  MessageFrames frames{.type = FrameType::kMessage};
  absl::AnyInvocable<absl::StatusOr<std::string>()> first_head;
  {
    MutexLock lock(mutex_);
    if (ended_ || finished_) return Wrote::kEnded;
    if (writing_) return Wrote::kFull;
    writing_ = true;
    has_written_ = true;
    if (carrier_ == nullptr) {
      early_ = message.SerializeAsString();
      return Wrote::kYes;
    }
    carrier = carrier_;
    frames.stream = stream_;
    frames.priority = priority_;
    first_head = std::exchange(first_head_, nullptr);
  }
  absl::StatusOr<std::string> head;
  if (first_head != nullptr) head = first_head();
  if (first_head != nullptr && !head.ok()) return Fail(head.status()), Wrote::kEnded;
  if (first_head != nullptr) frames.head = *head;
  if (size > carrier->carrier_max_message()) {
    return Fail(TooLong(size, carrier->carrier_max_message())), Wrote::kEnded;
  }
  const MessageSender::Added added = carrier->SendStreamed(frames, message, size, SentCallback());
  if (added != MessageSender::Added::kWaiting) OnSent();
  return added == MessageSender::Added::kClosed ? Wrote::kEnded : Wrote::kYes;
}

bool Stream::Write(const google::protobuf::MessageLite& message) {
  for (;;) {
    const Wrote wrote = TryWrite(message);
    if (wrote != Wrote::kFull) return wrote == Wrote::kYes;
    if (EventLoop::InAnyLoop()) return Fail(WouldStopTheLoop()), false;
    WaitPoint point;
    Waiter waiter = point.waiter();
    if (WhenWritable(waiter)) point.Wait();
  }
}

bool Stream::WhenWritable(Waiter& waiter) {
  if (ABSL_PREDICT_FALSE(forked())) return false;
  MutexLock lock(mutex_);
  if (!writing_ || ended_) return false;
  write_waiter_ = std::move(waiter);
  return true;
}

bool Stream::FinishWriting() {
  if (ABSL_PREDICT_FALSE(forked())) return false;
  std::shared_ptr<StreamCarrier> carrier;
  StreamId stream;
  uint8_t priority;
  {
    MutexLock lock(mutex_);
    if (ended_) return false;
    if (std::exchange(finished_, true) || opening_) return true;
    carrier = carrier_;
    stream = stream_;
    priority = priority_;
  }
  carrier->SendStreamEnd(stream, priority);
  return true;
}

MessageSender::OnSent Stream::SentCallback() {
  return [self = shared_from_this()] { self->OnSent(); };
}

void Stream::OnSent() {
  Waiter waiter;
  {
    MutexLock lock(mutex_);
    writing_ = false;
    waiter = std::exchange(write_waiter_, nullptr);
  }
  if (waiter != nullptr) waiter();
}

// ---------------------------------------------------------------- Reading

MessageQueue::Taken Stream::TryRead(google::protobuf::MessageLite& message) {
  if (ABSL_PREDICT_FALSE(forked())) return MessageQueue::Taken::kEnd;
  absl::string_view bytes;
  size_t credit;
  const MessageQueue::Taken taken = queue_.Take(&bytes, &credit);
  if (taken != MessageQueue::Taken::kMessage) return taken;
  const bool parsed = message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (credit > 0) GrantLater(credit);
  if (parsed) return taken;
  const absl::Status why =
      absl::InternalError(absl::StrCat("message of ", bytes.size(), " bytes does not parse"));
  Fail(why);
  {
    // Also if the call has ended: this message came before that.
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = why;
  }
  StopReading();
  return MessageQueue::Taken::kEnd;
}

bool Stream::Read(google::protobuf::MessageLite& message) {
  for (;;) {
    const MessageQueue::Taken taken = TryRead(message);
    if (taken != MessageQueue::Taken::kNothing) return taken == MessageQueue::Taken::kMessage;
    if (EventLoop::InAnyLoop()) return Fail(WouldStopTheLoop()), false;
    WaitPoint point;
    Waiter waiter = point.waiter();
    if (WhenReadable(waiter)) point.Wait();
  }
}

void Stream::StopReading() {
  if (ABSL_PREDICT_FALSE(forked())) return;
  const size_t credit = queue_.Discard();
  if (credit > 0) GrantLater(credit);
}

// Grants now, if the stream is open.
void Stream::GrantLater(size_t credit) {
  std::shared_ptr<StreamCarrier> carrier;
  StreamId stream;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    if (carrier_ == nullptr) {
      early_credit_ += credit;
      return;
    }
    carrier = carrier_;
    stream = stream_;
  }
  carrier->Grant(stream, credit);
}

// ---------------------------------------------------------------- Beginning and end

void Stream::Open(const std::shared_ptr<StreamCarrier>& carrier, StreamId stream, uint8_t priority,
                  absl::AnyInvocable<absl::StatusOr<std::string>()> first_head) {
  std::optional<std::string> early;
  absl::Status failure;
  size_t credit;
  {
    MutexLock lock(mutex_);
    if (ended_ && failure_.ok()) return;
    carrier_ = ended_ ? nullptr : carrier;
    stream_ = stream;
    priority_ = priority;
    first_head_ = std::move(first_head);
    early = std::exchange(early_, std::nullopt);
    failure = failure_;
    credit = std::exchange(early_credit_, 0);
  }
  if (!failure.ok()) return carrier->FailStream(shared_from_this(), stream, failure);
  if (credit > 0) carrier->Grant(stream, credit);
  if (early.has_value() && early->size() > carrier->carrier_max_message()) {
    return Fail(TooLong(early->size(), carrier->carrier_max_message()));
  }
  if (early.has_value()) {
    const MessageFrames frames{.type = FrameType::kMessage, .stream = stream, .priority = priority};
    if (carrier->SendStreamed(frames, *early, SentCallback()) != MessageSender::Added::kWaiting) OnSent();
  }
  bool finished;
  {
    MutexLock lock(mutex_);
    opening_ = false;
    finished = finished_ && !ended_;
  }
  if (finished) carrier->SendStreamEnd(stream, priority);
}

bool Stream::Withdraw() {
  // Destroyed without the mutex.
  std::shared_ptr<StreamCarrier> carrier;
  MutexLock lock(mutex_);
  // One that another thread is just opening may yet send something.
  if (opening_ || ended_ || has_written_ || !failure_.ok()) return false;
  carrier = std::move(carrier_);
  opening_ = true;
  return true;
}

void Stream::Fail(absl::Status why) {
  if (ABSL_PREDICT_FALSE(forked())) return;
  std::shared_ptr<StreamCarrier> carrier;
  StreamId stream;
  {
    MutexLock lock(mutex_);
    if (!failure_.ok() || ended_) return;
    failure_ = why;
    carrier = carrier_;
    stream = stream_;
  }
  End();
  if (carrier != nullptr) return carrier->FailStream(shared_from_this(), stream, std::move(why));
  FailUnopened(why);
}

absl::Status Stream::failure() {
  if (ABSL_PREDICT_FALSE(forked())) return loop_.fork_guard().Error("channel");
  MutexLock lock(mutex_);
  return failure_;
}

void Stream::End() {
  Waiter waiter;
  // Destroyed without the mutex: this may be their last reference.
  std::shared_ptr<StreamCarrier> carrier;
  absl::AnyInvocable<absl::StatusOr<std::string>()> first_head;
  {
    MutexLock lock(mutex_);
    ended_ = true;
    waiter = std::exchange(write_waiter_, nullptr);
    carrier = std::move(carrier_);
    first_head = std::exchange(first_head_, nullptr);
  }
  queue_.End();
  if (waiter != nullptr) waiter();
}

absl::Status AppendStreamed(const transport::Frame& frame, MessageQueue& queue, bool counted,
                            const std::shared_ptr<Budget>& budget, size_t* credit, Metadata* initial) {
  const transport::FrameHeader& header = frame.header;
  MessageQueue::Part part{.bytes = frame.message(), .more = header.has(transport::kMore)};
  if (header.head > 0) {
    if (queue.in_message()) {
      return absl::InternalError(
          absl::StrCat("MESSAGE frame that continues a message has a head of ", header.head, " bytes"));
    }
    wire::MessageHead head;
    if (absl::Status parsed = ParseHead(frame.head(), "message head", head); !parsed.ok()) return parsed;
    part.message_length = head.message_length();
    Metadata metadata;
    if (absl::Status read = ReadMetadata(head.initial_metadata(), metadata); !read.ok()) return read;
    if (initial != nullptr && !metadata.empty()) *initial = std::move(metadata);
  }
  return queue.Append(part, counted ? WindowCost(header) : 0, budget, credit);
}

}  // namespace ferry
