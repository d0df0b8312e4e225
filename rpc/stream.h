// The messages of one streaming call, both ways, as either side has them.
#ifndef FERRY_RPC_STREAM_H_
#define FERRY_RPC_STREAM_H_

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/budget.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/message_queue.h"
#include "ferry/rpc/message_sender.h"
#include "ferry/rpc/metadata.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/mutex.h"

namespace ferry {

class Stream;

// A StreamCarrier carries the messages of streams: a session, as a Stream sees it.
//
// Thread-safe. A stream holds it by shared_ptr.
class StreamCarrier {
 public:
  virtual ~StreamCarrier() = default;
  // The longest message that the peer accepts, in bytes.
  virtual uint64_t carrier_max_message() const = 0;
  // Sends a MESSAGE: `message`, of `size` = message.ByteSizeLong() just called, or one that is encoded.
  // `on_sent` is run if it has to wait, and then once, on any thread.
  virtual MessageSender::Added SendStreamed(const MessageFrames& frames,
                                            const google::protobuf::MessageLite& message, size_t size,
                                            MessageSender::OnSent on_sent) = 0;
  virtual MessageSender::Added SendStreamed(const MessageFrames& frames, absl::string_view encoded,
                                            MessageSender::OnSent on_sent) = 0;
  // Ends a client's messages.
  virtual void SendStreamEnd(transport::StreamId stream, uint8_t priority) = 0;
  // Lets the peer send `bytes` more.
  virtual void Grant(transport::StreamId stream, size_t bytes) = 0;
  // Ends the call with `why`, an error of this side's own, unless `stream` is by then another's than
  // `failed`.
  virtual void FailStream(std::shared_ptr<Stream> failed, transport::StreamId stream, absl::Status why) = 0;
};

// A Stream is one streaming call's messages both ways: those that have arrived wait in it to be read, and it
// makes writers wait while the peer does not accept more. At most one message waits to be sent.
//
// Thread-safe, for one reader and one writer at a time. Owned by shared_ptr: by its session until the call
// has ended, and by the handles of its user. In a process that was forked since the loop was made, the user's
// side finds it ended, at once, and touches neither a lock nor the connection, which is the other process's.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  using Waiter = MessageQueue::Waiter;
  enum class Wrote {
    kYes,
    kFull,   // nothing was done: the message before waits to be sent; WhenWritable tells
    kEnded,  // the call has ended, or this side has finished writing
  };

  // `window` is what the peer was granted at first, `max_message` the most that is accepted, in bytes. `loop`
  // is where callbacks run; not owned, must outlive the stream.
  Stream(transport::EventLoop& loop, uint32_t window, uint64_t max_message)
      : loop_(loop), queue_(window, max_message) {}
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // ---- The user's side

  // Whether the next message may be written just now, and if so writes it.
  Wrote TryWrite(const google::protobuf::MessageLite& message) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until it may. False if it never will.
  bool Write(const google::protobuf::MessageLite& message) ABSL_LOCKS_EXCLUDED(mutex_);
  // Runs `waiter` once TryWrite would answer other than kFull. False, and it is left alone, if it would now.
  bool WhenWritable(Waiter& waiter) ABSL_LOCKS_EXCLUDED(mutex_);
  // A client writes no more. False if the call has ended.
  bool FinishWriting() ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads the next message if it has come; ends the call if it does not parse.
  MessageQueue::Taken TryRead(google::protobuf::MessageLite& message);
  // Waits for it. False if there are no more: the call has ended or will without.
  bool Read(google::protobuf::MessageLite& message);
  bool WhenReadable(Waiter& waiter) { return !forked() && queue_.Await(waiter); }
  // Nobody reads any more: what is there and what comes is dropped.
  void StopReading();

  // A waiter that has the loop's own thread run `task`; never inside. The stream lives until then.
  Waiter Posting(absl::AnyInvocable<void()> task) {
    return [self = shared_from_this(), task = std::move(task)]() mutable {
      if (self->forked()) return task();
      self->loop_.PostToOwner([self, task = std::move(task)]() mutable { task(); });
    };
  }

  // Ends the call with `why`, an error of this side's own; does nothing if it has ended.
  void Fail(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_);
  // That error, or that of a message that did not parse, whenever it was read; OK if there was none.
  // FAILED_PRECONDITION in a forked process.
  absl::Status failure() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether this process was forked since the loop was made: then the stream is of no use.
  bool forked() const { return loop_.fork_guard().forked(); }

  // ---- The session's side

  // Says what the stream's messages are sent through, once. `priority` is that of its frames; `first_head` is
  // asked for the head of the first message, and may fail the call. What was written before is sent now.
  void Open(const std::shared_ptr<StreamCarrier>& carrier, transport::StreamId stream, uint8_t priority,
            absl::AnyInvocable<absl::StatusOr<std::string>()> first_head = nullptr)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes the stream one that is not open yet, and may be opened again, for its call was not executed. False,
  // and it is left alone, if it has ended or any of its messages was written.
  bool Withdraw() ABSL_LOCKS_EXCLUDED(mutex_);

  MessageQueue& queue() { return queue_; }

  // The call has ended, or is about to for sure: writers and, when they have read what is there, readers are
  // told so. Thread-safe, may be called again.
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

  // What blocking on an event loop's thread ends a call with.
  static absl::Status WouldStopTheLoop();

 private:
  // The call is to end with `why`, but is not open: it may be waiting for its turn to be sent.
  virtual void FailUnopened(const absl::Status& /*why*/) {}
  void OnSent() ABSL_LOCKS_EXCLUDED(mutex_);
  void GrantLater(size_t credit) ABSL_LOCKS_EXCLUDED(mutex_);
  MessageSender::OnSent SentCallback();

  transport::EventLoop& loop_;
  MessageQueue queue_;

  transport::Mutex mutex_;
  // Null until the stream is open, and again from its end on: a session that keeps the stream is not kept by
  // it for ever. The two below are constant once it is open.
  std::shared_ptr<StreamCarrier> carrier_ ABSL_GUARDED_BY(mutex_);
  transport::StreamId stream_ ABSL_GUARDED_BY(mutex_);
  uint8_t priority_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::AnyInvocable<absl::StatusOr<std::string>()> first_head_ ABSL_GUARDED_BY(mutex_);
  // The message that was written before the stream was open.
  std::optional<std::string> early_ ABSL_GUARDED_BY(mutex_);
  // early_ may still be on its way to the carrier: the end of writing is to come behind it.
  bool opening_ ABSL_GUARDED_BY(mutex_) = true;
  // What was read and is to be granted once the stream is open.
  size_t early_credit_ ABSL_GUARDED_BY(mutex_) = 0;
  // A message waits to be sent, or is just being.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Any message was written.
  bool has_written_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Waiter write_waiter_ ABSL_GUARDED_BY(mutex_);
};

// Appends what a MESSAGE frame brings to a stream of messages; see MessageQueue::Append. `counted` says
// whether windows count. `initial` is where initial metadata go; null if this is not a server's.
absl::Status AppendStreamed(const transport::Frame& frame, MessageQueue& queue, bool counted,
                            const std::shared_ptr<Budget>& budget, size_t* credit,
                            Metadata* initial = nullptr);

}  // namespace ferry

#endif  // FERRY_RPC_STREAM_H_
