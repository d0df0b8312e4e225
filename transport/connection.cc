#include "ferry/transport/connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"

namespace ferry::transport {
namespace {

// One ready connection may not keep the loop from the others for longer than this many reads, and not once so
// many bytes were read.
constexpr int kReadsPerBatch = 16;
constexpr uint64_t kBytesPerBatch = 64 * 1024;

// How much the loop appends in a batch before it writes. Much less would have the peer begin earlier, but
// small writes cost both sides more than that gains.
constexpr size_t kEarlyFlush = 64 * 1024;

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
  const uint64_t before = counters_.bytes_read.load(std::memory_order_relaxed);
  for (int reads = 0; more && reads < kReadsPerBatch; ++reads) {
    if (preface_done_ && waiting_output() > options_.max_waiting_output) break;
    if (counters_.bytes_read.load(std::memory_order_relaxed) - before >= kBytesPerBatch) break;
    more = ReadOnce();
  }
  if (closed_) return;
  // The peer has work while the loop sees to others.
  if (loop_.has_events_to_come()) OnEndOfBatch();
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
  Counters::Add(counters_.reads, 1);
  Counters::Add(counters_.bytes_read, result.bytes);
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
