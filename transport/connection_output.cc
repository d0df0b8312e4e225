// The output half of a connection, and what follows from it on the loop.
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/connection.h"

namespace ferry::transport {
namespace {

// How long to go on reading, so that the peer can read our last words: closing earlier would reset the
// connection.
constexpr absl::Duration kLingerTimeout = absl::Seconds(1);

}  // namespace

Block Connection::AllocateOutput(size_t size) {
  return loop_.InLoop() ? loop_.blocks().Allocate(size) : loop_.blocks().pool().Allocate(size);
}

Connection::Appended Connection::AppendLocked(absl::FunctionRef<void(Output&)> append) {
  MutexLock lock(output_mutex_);
  if (output_closed_ || finish_writing_) return Appended::kClosed;
  OutputQueue& queue = corked_ ? late_output_ : output_;
  Output output(*this, queue);
  append(output);
  if (corked_) has_late_output_.store(true, std::memory_order_release);
  waiting_output_.store(output_.bytes() + late_output_.bytes(), std::memory_order_relaxed);
  return !corked_ && StartWriting() ? Appended::kFlush : Appended::kDone;
}

void Connection::FinishWriting() {
  {
    MutexLock lock(output_mutex_);
    if (output_closed_) return;
    finish_writing_ = true;
    output_ended_.store(true, std::memory_order_relaxed);
  }
  // Also if writing was finished before: CloseAfterFlush has more to do then.
  PostToLoop(&Connection::AfterFlush);
}

// While the loop handles input it keeps output together: one flush at the end of the batch.
void Connection::Cork() {
  if (std::exchange(in_batch_, true)) return;
  {
    MutexLock lock(output_mutex_);
    corked_ = true;
  }
  loop_.AddBatchHook(*this);
}

// Nothing more is written: what waits is dropped, unless somebody is writing it just now and will.
void Connection::EndOutput() {
  output_closed_ = true;
  output_ended_.store(true, std::memory_order_relaxed);
  if (!writing_) output_.Clear();
  late_output_.Clear();
  has_late_output_.store(false, std::memory_order_relaxed);
  waiting_output_.store(output_.bytes());
}

// Brings together what the batch has appended.
void Connection::GatherOutput() {
  if (output_closed_) {
    loop_output_.Clear();
  } else {
    output_.TakeAll(loop_output_);
    output_.TakeAll(late_output_);
    has_late_output_.store(false, std::memory_order_relaxed);
    waiting_output_.store(output_.bytes());
  }
  loop_waiting_.store(0, std::memory_order_relaxed);
}

// Also before the batch's end; what is appended after that begins another.
void Connection::OnEndOfBatch() {
  loop_.AssertInLoop();
  if (!std::exchange(in_batch_, false)) return;
  bool see_to_it;
  {
    MutexLock lock(output_mutex_);
    corked_ = false;
    GatherOutput();
    if (!StartWriting()) return;
    see_to_it = WriteWaiting();
    output_.ReleaseIdle();
  }
  loop_output_.ReleaseIdle();
  FollowWriting(see_to_it);
}

void Connection::FlushEarly() {
  bool see_to_it;
  {
    MutexLock lock(output_mutex_);
    GatherOutput();
    if (!StartWriting()) return;
    see_to_it = WriteWaiting();
  }
  FollowWriting(see_to_it);
}

void Connection::FlushNow() {
  loop_.AssertInLoop();
  FlushEarly();
}

void Connection::OnWritable() {
  {
    MutexLock lock(output_mutex_);
    if (writing_) writable_meanwhile_ = true;
    blocked_ = false;
    if (!StartWriting()) return;
  }
  Flush();
}

// Whether the caller is now the one who writes, and is to call Flush.
bool Connection::StartWriting() {
  if (writing_ || blocked_ || output_closed_ || output_.empty()) return false;
  writing_ = true;
  writable_meanwhile_ = false;
  return true;
}

// REQUIRES: StartWriting() answered true.
void Connection::Flush() {
  if (!loop_.InLoop() && pollable()) written_elsewhere_.store(true, std::memory_order_relaxed);
  bool see_to_it;
  {
    MutexLock lock(output_mutex_);
    see_to_it = WriteWaiting();
  }
  FollowWriting(see_to_it);
}

// Writes, without the mutex, until nothing waits or the stream is full. Whether that was not all there is to
// do. REQUIRES: StartWriting() answered true.
bool Connection::WriteWaiting() {
  do {
    iovec parts[ByteStream::kMaxParts];
    const size_t count = output_.Peek(parts);
    Counters::Add(writes_begun_, 1);
    output_mutex_.Unlock();
    const IoResult result = stream_->Write({parts, count});
    output_mutex_.Lock();
    writing_ = HandleWritten(result);
  } while (writing_);
  waiting_output_.store(output_.bytes() + late_output_.bytes());
  return blocked_ || finish_writing_ || !write_error_.ok();
}

// Leaves to the loop what follows from a write.
void Connection::FollowWriting(bool see_to_it) {
  const bool read = reading_paused_.load() && waiting_output_.load() <= options_.max_waiting_output / 2;
  const bool room = room_wanted_.load() && waiting_output_.load() < kRoom;
  if (see_to_it || read || room) PostToLoop(&Connection::AfterFlush);
}

// Asks to be told of room; answers true, and has not asked, if there is some now.
bool Connection::WaitForRoom() {
  room_wanted_.store(true);
  if (waiting_output_.load() + loop_waiting_.load() >= kRoom) return false;
  return room_wanted_.exchange(false);
}

// Accounts for one write; whether there is more to write at once.
bool Connection::HandleWritten(const IoResult& result) {
  if (result.state == IoResult::State::kDone) last_write_ = writes_begun();
  if (output_closed_) {
    output_.Clear();
    return false;
  }
  switch (result.state) {
    case IoResult::State::kDone:
      Counters::Add(counters_.writes, 1);
      Counters::Add(counters_.bytes_written, result.bytes);
      output_.Drop(result.bytes);
      return !output_.empty();
    case IoResult::State::kWouldBlock:
      blocked_ = !std::exchange(writable_meanwhile_, false);
      return !blocked_;
    case IoResult::State::kEnd:
    case IoResult::State::kFailed:
      write_error_ = result.status;
      writing_ = false;
      EndOutput();
      return false;
  }
  return false;
}

uint64_t Connection::last_write() {
  MutexLock lock(output_mutex_);
  // Of one that is under way, or about to be, nobody knows yet what it will do.
  return writing_ ? writes_begun() + 1 : last_write_;
}

void Connection::AfterFlush() {
  loop_.AssertInLoop();
  absl::Status error;
  bool blocked, finish;
  {
    MutexLock lock(output_mutex_);
    error = write_error_;
    blocked = blocked_;
    finish = finish_writing_ && output_.empty() && late_output_.empty() && loop_output_.empty() &&
             !writing_ && !output_closed_;
  }
  if (closed_) return;
  if (!error.ok()) return Close(error);
  if (finish && !std::exchange(finished_writing_, true)) stream_->FinishWriting();
  if (finished_writing_ && closing_.has_value()) {
    if (end_of_input_) return Close(*closing_);
    if (!read_timer_.armed()) loop_.timers().Arm(read_timer_, loop_.now() + kLingerTimeout);
  }
  if (!blocked) {
    loop_.timers().Cancel(write_timer_);
  } else if (!write_timer_.armed()) {
    timed_bytes_ = counters_.bytes_written.load(std::memory_order_relaxed);
    loop_.timers().Arm(write_timer_, loop_.now() + options_.write_timeout);
  }
  if (waiting_output_.load() < kRoom && room_wanted_.exchange(false)) handler_.OnRoom();
  if (closed_) return;
  if (waiting_output_.load() <= options_.max_waiting_output / 2 && reading_paused_.exchange(false)) Read();
}

void Connection::OnWriteTimeout() {
  loop_.AssertInLoop();
  const std::shared_ptr<Connection> self = shared_from_this();
  if (counters_.bytes_written.load(std::memory_order_relaxed) != timed_bytes_) return AfterFlush();
  bool blocked;
  {
    MutexLock lock(output_mutex_);
    blocked = blocked_;
  }
  if (!blocked) return;
  Close(absl::DeadlineExceededError(absl::StrCat("the peer took none of ", waiting_output(),
                                                 " waiting bytes for ",
                                                 absl::FormatDuration(options_.write_timeout))));
}

}  // namespace ferry::transport
