// How handlers and callers read and write the messages of a stream.
#ifndef FERRY_RPC_STREAM_IO_H_
#define FERRY_RPC_STREAM_IO_H_

#include <google/protobuf/message_lite.h>

#include <coroutine>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "ferry/rpc/message_queue.h"
#include "ferry/rpc/resumption.h"
#include "ferry/rpc/stream.h"

namespace ferry {

// Run once: whether a message was read, or may be written.
// clang-format off
using StreamCallback = absl::AnyInvocable<void(bool) &&>;
// clang-format on

// What reading without waiting has found.
enum class ReadResult {
  kMessage,
  kNothing,  // so far
  kEnd,      // there will be no more messages
};

// What writing without waiting has done.
enum class WriteResult {
  kWritten,
  kFull,   // nothing: the message before still waits for the peer to accept it
  kEnded,  // nothing: the call has ended, or this side has finished writing
};

// What a coroutine reads a message with.
class ReadAwaiter {
 public:
  ReadAwaiter(Stream& stream, google::protobuf::MessageLite& message) : stream_(stream), message_(message) {}
  ReadAwaiter(const ReadAwaiter&) = delete;
  ReadAwaiter& operator=(const ReadAwaiter&) = delete;

  bool await_ready() {
    taken_ = stream_.TryRead(message_);
    return taken_ != MessageQueue::Taken::kNothing;
  }
  bool await_suspend(std::coroutine_handle<> coroutine);
  bool await_resume() const { return taken_ == MessageQueue::Taken::kMessage; }

 private:
  Stream& stream_;
  google::protobuf::MessageLite& message_;
  MessageQueue::Taken taken_ = MessageQueue::Taken::kNothing;
  Resumption resumption_;
};

// What a coroutine writes one with.
class WriteAwaiter {
 public:
  WriteAwaiter(Stream& stream, const google::protobuf::MessageLite& message)
      : stream_(stream), message_(message) {}
  WriteAwaiter(const WriteAwaiter&) = delete;
  WriteAwaiter& operator=(const WriteAwaiter&) = delete;

  bool await_ready() {
    wrote_ = stream_.TryWrite(message_);
    return wrote_ != Stream::Wrote::kFull;
  }
  bool await_suspend(std::coroutine_handle<> coroutine);
  bool await_resume() const { return wrote_ == Stream::Wrote::kYes; }

 private:
  Stream& stream_;
  const google::protobuf::MessageLite& message_;
  Stream::Wrote wrote_ = Stream::Wrote::kFull;
  Resumption resumption_;
};

// A StreamReader reads the messages that arrive in one call, in their order. They end when the peer has
// written its last or the call has ended; only the call's status tells which, so a stream that was cut short
// is never taken for a whole one.
//
// A value that refers to its call; one thread at a time. On the client it may outlive the call, on the server
// not.
template <typename Message>
class StreamReader {
 public:
  explicit StreamReader(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}

  // Waits for the next message; false if there is none. Not on an event loop's thread: the call fails with
  // FAILED_PRECONDITION there.
  bool Read(Message& message) { return stream_->Read(message); }

  // Reads the next message if it is there.
  ReadResult TryRead(Message& message) {
    switch (stream_->TryRead(message)) {
      case MessageQueue::Taken::kMessage:
        return ReadResult::kMessage;
      case MessageQueue::Taken::kNothing:
        return ReadResult::kNothing;
      case MessageQueue::Taken::kEnd:
        break;
    }
    return ReadResult::kEnd;
  }

  // Runs `done` once there is a message, which is then in `message`, or when there will be none. On the event
  // loop's thread, never before this returns into the loop; `done` may read on. `message` must live until
  // then. One Read at a time.
  void Read(Message& message, StreamCallback done) {
    WhenReadable([stream = stream_.get(), &message, done = std::move(done)]() mutable {
      std::move(done)(stream->TryRead(message) == MessageQueue::Taken::kMessage);
    });
  }

  // For `co_await reader.CoRead(message)`: waits for the next message; false if there is none. The coroutine
  // runs on on the event loop's thread if it had to wait.
  [[nodiscard]] ReadAwaiter CoRead(Message& message) { return ReadAwaiter(*stream_, message); }

  // Runs `task` once TryRead has something to say, as Read runs its callback.
  void WhenReadable(absl::AnyInvocable<void()> task) {
    Stream::Waiter waiter = stream_->Posting(std::move(task));
    if (!stream_->WhenReadable(waiter)) waiter();
  }

 private:
  std::shared_ptr<Stream> stream_;
};

// A StreamWriter writes the messages of one side of a call. At most one that the peer does not accept yet is
// held; then writing waits, so that a slow reader slows its writer and nothing else.
//
// As StreamReader.
template <typename Message>
class StreamWriter {
 public:
  explicit StreamWriter(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}

  // Writes `message`, as soon as the one before is on its way: waits for that. False if the call has ended;
  // its status says why. Not on an event loop's thread.
  bool Write(const Message& message) { return stream_->Write(message); }

  // Writes `message` if that needs no waiting.
  WriteResult TryWrite(const Message& message) {
    switch (stream_->TryWrite(message)) {
      case Stream::Wrote::kYes:
        return WriteResult::kWritten;
      case Stream::Wrote::kFull:
        return WriteResult::kFull;
      case Stream::Wrote::kEnded:
        break;
    }
    return WriteResult::kEnded;
  }

  // Writes `message`, which is read before this returns, and runs `done` once the next may be written or the
  // call has ended: with false if the call had ended already and `message` was not taken. On the event loop's
  // thread, never before this returns into the loop. One Write at a time, and none while TryWrite would
  // answer kFull.
  void Write(const Message& message, StreamCallback done) {
    const bool written = TryWrite(message) == WriteResult::kWritten;
    WhenWritable([written, done = std::move(done)]() mutable { std::move(done)(written); });
  }

  // For `co_await writer.CoWrite(message)`: as the Write that waits. The coroutine runs on on the event
  // loop's thread if it had to wait.
  [[nodiscard]] WriteAwaiter CoWrite(const Message& message) { return WriteAwaiter(*stream_, message); }

  // Runs `task` once TryWrite would not answer kFull.
  void WhenWritable(absl::AnyInvocable<void()> task) {
    Stream::Waiter waiter = stream_->Posting(std::move(task));
    if (!stream_->WhenWritable(waiter)) waiter();
  }

 private:
  std::shared_ptr<Stream> stream_;
};

}  // namespace ferry

#endif  // FERRY_RPC_STREAM_IO_H_
