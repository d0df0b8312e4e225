#include "ferry/transport/connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"

namespace ferry::transport {
namespace {

// One ready connection may not keep the loop from the others for longer than this many reads.
constexpr int kReadsPerBatch = 16;
// How much the loop appends in a batch before it writes. Much less would have the peer begin earlier, but
// small writes cost both sides more than that gains.
constexpr size_t kEarlyFlush = 64 * 1024;
// How long to go on reading, so that the peer can read our last words: closing earlier would reset the
// connection.
constexpr absl::Duration kLingerTimeout = absl::Seconds(1);

// A sum that one thread at a time adds to: no locked instruction.
void Add(std::atomic<uint64_t>& sum, uint64_t n) {
  sum.store(sum.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

}  // namespace

std::shared_ptr<Connection> Connection::Create(const Options& options, EventLoop& loop, Handler& handler,
                                               std::unique_ptr<ByteStream> stream) {
  return std::shared_ptr<Connection>(new Connection(options, loop, handler, std::move(stream)));
}

Connection::Connection(const Options& options, EventLoop& loop, Handler& handler,
                       std::unique_ptr<ByteStream> stream)
    : options_(options),
      loop_(loop),
      handler_(handler),
      stream_(std::move(stream)),
      peer_(stream_->peer()),
      early_flush_(std::min(kEarlyFlush, options.max_waiting_output)),
      assembler_(options.limits, loop.blocks()),
      read_timer_([this] { OnReadTimeout(); }),
      write_timer_([this] { OnWriteTimeout(); }) {}

Connection::~Connection() = default;

void Connection::Start() {
  loop_.AssertInLoop();
  if (!options_.wait_for_preface) SendPreface();
  loop_.timers().Arm(read_timer_, loop_.now() + options_.preface_timeout);
  absl::Status watching = stream_->Watch(loop_, *this);
  if (!watching.ok()) Close(watching);
}

void Connection::SendPreface() {
  Send([](Output& output) { EncodePreface(output.Append(kPrefaceSize)); });
}

// ---------------------------------------------------------------- Input

void Connection::OnReady(bool readable, bool writable) {
  loop_.AssertInLoop();
  const std::shared_ptr<Connection> self = shared_from_this();
  if (!pollable()) written_elsewhere_.store(false, std::memory_order_relaxed);
  if (writable) OnWritable();
  if (readable) Read();
}

bool Connection::OnPoll() {
  loop_.AssertInLoop();
  const uint64_t reads = counters_.reads.load(std::memory_order_relaxed);
  if (closed_ || end_of_input_ || held_size_ > 0 || reading_paused_.load(std::memory_order_relaxed))
    return false;
  const std::shared_ptr<Connection> self = shared_from_this();
  Read();
  return closed_ || end_of_input_ || counters_.reads.load(std::memory_order_relaxed) != reads;
}

void Connection::Read() {
  if (closed_) return;
  if (reading_paused_.load(std::memory_order_relaxed) || PauseReading()) return WatchPartialFrame();
  if (held_size_ == 0 && end_of_input_) return LookForFailure();
  if (held_size_ > 0) {
    const Block held = std::move(held_);
    HandleBytes(absl::string_view(held.data(), std::exchange(held_size_, 0)));
  }
  bool more = !closed_ && !end_of_input_ && held_size_ == 0;
  for (int reads = 0; more && reads < kReadsPerBatch; ++reads) {
    if (preface_done_ && waiting_output() > options_.max_waiting_output) break;
    more = ReadOnce();
  }
  if (closed_) return;
  const bool paused = PauseReading();
  WatchPartialFrame();
  // Neither an event nor a flush may be left to tell of what was not read or handled.
  if (!paused && (more || held_size_ > 0)) PostToLoop(&Connection::ResumeReading);
}

// Reads once and handles what came; whether there may be more.
bool Connection::ReadOnce() {
  // What is thrown away must not gather in the assembler.
  const absl::Span<char> room = closing_.has_value() ? absl::Span<char>() : assembler_.Room();
  const absl::Span<char> scratch = loop_.scratch();
  iovec parts[2];
  size_t count = 0;
  if (!room.empty()) parts[count++] = {.iov_base = room.data(), .iov_len = room.size()};
  parts[count++] = {.iov_base = scratch.data(), .iov_len = scratch.size()};
  const IoResult result = stream_->Read({parts, count});
  switch (result.state) {
    case IoResult::State::kWouldBlock:
      return false;
    case IoResult::State::kEnd:
      HandleEndOfInput();
      return false;
    case IoResult::State::kFailed:
      Close(result.status);
      return false;
    case IoResult::State::kDone:
      break;
  }
  Add(counters_.reads, 1);
  Add(counters_.bytes_read, result.bytes);
  const size_t in_place = std::min(result.bytes, room.size());
  assembler_.Filled(in_place);
  HandleBytes(absl::string_view(scratch.data(), result.bytes - in_place));
  return !closed_ && result.more && held_size_ == 0;
}

void Connection::HandleBytes(absl::string_view input) {
  if (closing_.has_value()) return;
  Cork();
  if (!preface_done_ && !HandlePreface(&input)) return;
  handling_ = true;
  while (!closed_ && !closing_.has_value()) {
    if (ABSL_PREDICT_FALSE(loop_output_.bytes() >= early_flush_)) {
      FlushEarly();
      // What handlers answer within one read must not grow without bound either.
      if (waiting_output() > options_.max_waiting_output && !input.empty()) {
        Hold(input);
        break;
      }
    }
    if (Frame frame; ABSL_PREDICT_TRUE(assembler_.TakeInPlace(&input, frame))) {
      ++frames_;
      handler_.OnFrame(frame);
      continue;
    }
    absl::StatusOr<std::optional<Frame>> frame = assembler_.Next(&input);
    if (!frame.ok()) {
      handling_ = false;
      handler_.OnEndOfRead();
      if (!closed_) handler_.OnMalformedInput(frame.status(), true);
      return;
    }
    if (!frame->has_value()) break;
    ++frames_;
    if (!IsIgnorable((*frame)->header.type)) handler_.OnFrame(**frame);
  }
  handling_ = false;
  if (closed_) return assembler_.Clear();
  handler_.OnEndOfRead();
}

void Connection::Hold(absl::string_view input) {
  held_ = loop_.blocks().Allocate(input.size());
  std::memcpy(held_.data(), input.data(), input.size());
  held_size_ = input.size();
}

// After the peer has finished writing there is nothing to read but the news that the connection is broken.
void Connection::LookForFailure() {
  const absl::Span<char> scratch = loop_.scratch();
  const iovec part = {.iov_base = scratch.data(), .iov_len = scratch.size()};
  const IoResult result = stream_->Read({&part, 1});
  if (result.state == IoResult::State::kFailed) Close(result.status);
}

// Whether the peer's preface is whole and good.
bool Connection::HandlePreface(absl::string_view* input) {
  const size_t n = std::min(input->size(), kPrefaceSize - preface_.size());
  preface_.append(input->data(), n);
  input->remove_prefix(n);
  absl::StatusOr<bool> whole = CheckPreface(preface_);
  if (!whole.ok()) {
    // A peer of another version may learn ours; one of another kind is told nothing (PROTOCOL.md [P2.3],
    // [P2.4]).
    if (options_.wait_for_preface && absl::IsUnimplemented(whole.status())) SendPreface();
    handler_.OnMalformedInput(whole.status(), false);
    return false;
  }
  preface_done_ = *whole;
  if (!preface_done_) return false;
  loop_.timers().Cancel(read_timer_);
  if (options_.wait_for_preface) SendPreface();
  handler_.OnPreface();
  return true;
}

void Connection::HandleEndOfInput() {
  end_of_input_ = true;
  loop_.timers().Cancel(read_timer_);
  if (closing_.has_value() && finished_writing_) return Close(*closing_);
  if (closing_.has_value()) return;
  if (!preface_done_) {
    return handler_.OnMalformedInput(
        absl::InternalError(absl::StrCat("connection ended after ", preface_.size(), " of the preface's ",
                                         kPrefaceSize, " bytes")),
        false);
  }
  if (assembler_.partial()) {
    return handler_.OnMalformedInput(
        absl::InternalError(absl::StrCat("connection ended inside a frame, after ", assembler_.Progress())),
        true);
  }
  handler_.OnEndOfInput();
}

// Whether reading must wait for output to shrink; it is then resumed by AfterFlush.
bool Connection::PauseReading() {
  // The preface asks for no output, and its time runs.
  if (!preface_done_ || waiting_output_.load() + loop_output_.bytes() <= options_.max_waiting_output)
    return false;
  reading_paused_.store(true);
  if (waiting_output_.load() + loop_output_.bytes() > options_.max_waiting_output / 2) return true;
  return !reading_paused_.exchange(false);
}

void Connection::ResumeReading() {
  loop_.AssertInLoop();
  Read();
}

// Sees to it that a frame that has begun to arrive is whole within frame_timeout, not counting the time in
// which we do not read.
void Connection::WatchPartialFrame() {
  if (!preface_done_ || closing_.has_value()) return;
  if (!assembler_.partial() || reading_paused_.load()) return loop_.timers().Cancel(read_timer_);
  if (read_timer_.armed() && timed_frame_ == frames_) return;
  timed_frame_ = frames_;
  loop_.timers().Arm(read_timer_, loop_.now() + options_.frame_timeout);
}

void Connection::OnReadTimeout() {
  loop_.AssertInLoop();
  const std::shared_ptr<Connection> self = shared_from_this();
  if (closing_.has_value()) return Close(*closing_);
  if (!preface_done_) {
    return handler_.OnMalformedInput(
        absl::DeadlineExceededError(absl::StrCat("preface is not whole after ",
                                                 absl::FormatDuration(options_.preface_timeout), ", ",
                                                 preface_.size(), " of ", kPrefaceSize, " bytes are there")),
        false);
  }
  handler_.OnMalformedInput(absl::DeadlineExceededError(absl::StrCat(
                                "frame is not whole after ", absl::FormatDuration(options_.frame_timeout),
                                ", ", assembler_.Progress(), " are there")),
                            true);
}

// ---------------------------------------------------------------- Output

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

void Connection::OnEndOfBatch() {
  loop_.AssertInLoop();
  in_batch_ = false;
  {
    MutexLock lock(output_mutex_);
    corked_ = false;
    GatherOutput();
    if (!StartWriting()) return;
  }
  Flush();
  loop_output_.ReleaseIdle();
  MutexLock lock(output_mutex_);
  output_.ReleaseIdle();
}

void Connection::FlushEarly() {
  {
    MutexLock lock(output_mutex_);
    GatherOutput();
    if (!StartWriting()) return;
  }
  Flush();
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

// Writes until nothing waits or the stream is full. REQUIRES: StartWriting() answered true.
void Connection::Flush() {
  if (!loop_.InLoop() && pollable()) written_elsewhere_.store(true, std::memory_order_relaxed);
  bool after = false;
  {
    MutexLock lock(output_mutex_);
    do {
      iovec parts[ByteStream::kMaxParts];
      const size_t count = output_.Peek(parts);
      Add(writes_begun_, 1);
      output_mutex_.Unlock();
      const IoResult result = stream_->Write({parts, count});
      output_mutex_.Lock();
      writing_ = HandleWritten(result);
    } while (writing_);
    waiting_output_.store(output_.bytes() + late_output_.bytes());
    after = blocked_ || finish_writing_ || !write_error_.ok();
  }
  const bool read = reading_paused_.load() && waiting_output_.load() <= options_.max_waiting_output / 2;
  const bool room = room_wanted_.load() && waiting_output_.load() < kRoom;
  if (after || read || room) PostToLoop(&Connection::AfterFlush);
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
      Add(counters_.writes, 1);
      Add(counters_.bytes_written, result.bytes);
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

// ---------------------------------------------------------------- The end

void Connection::Close(const absl::Status& why) {
  loop_.AssertInLoop();
  if (std::exchange(closed_, true)) return;
  const std::shared_ptr<Connection> self = shared_from_this();
  loop_.timers().Cancel(read_timer_);
  loop_.timers().Cancel(write_timer_);
  loop_.RemoveBatchHook(*this);
  held_ = Block();
  held_size_ = 0;
  // A handler may be reading a frame in it just now.
  if (!handling_) assembler_.Clear();
  {
    MutexLock lock(output_mutex_);
    corked_ = false;
    EndOutput();
    GatherOutput();
  }
  in_batch_ = false;
  // Now, and not when that thread is done: the loop may have stopped by then, and calls that a handler holds
  // may keep the stream, and with it the peer waiting.
  stream_->Close();
  handler_.OnClosed(closing_.has_value() ? *closing_ : why);
}

void Connection::CloseAfterFlush(absl::Status why) {
  loop_.AssertInLoop();
  if (closed_ || closing_.has_value()) return;
  closing_ = std::move(why);
  loop_.timers().Cancel(read_timer_);
  FinishWriting();
}

void Connection::PostToLoop(void (Connection::*task)()) {
  loop_.Post([self = shared_from_this(), task] { ((*self).*task)(); });
}

}  // namespace ferry::transport
