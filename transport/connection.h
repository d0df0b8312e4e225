// Frames both ways over a byte stream.
#ifndef FERRY_TRANSPORT_CONNECTION_H_
#define FERRY_TRANSPORT_CONNECTION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/frame_assembler.h"
#include "ferry/transport/mutex.h"
#include "ferry/transport/output_queue.h"
#include "ferry/transport/preface.h"

namespace ferry::transport {

// A Connection sends and receives frames, and knows nothing of what they mean.
//
// The input half belongs to the loop: one read fills the loop's scratch memory and every whole frame in it is
// handled in place. The output half is Thread-safe: frames are appended under a mutex and, unless somebody is
// writing already or the loop is in the middle of a batch, written by the thread that appended them. Whatever
// was appended meanwhile goes out with the next write, so writers never wait for each other's system calls.
// What the loop itself appends during a batch needs no mutex: it is gathered apart, and leaves at the batch's
// end, or before the loop handles another event, or whenever kEarlyFlush bytes have come together, so that
// the peer has work while we go on.
//
//     the loop       loop_output_ --.  end of a batch, or enough
//     other threads  late_output_ --+------> output_ ------> one writev
//                     while the loop is in a batch; otherwise straight to output_
//
// Calls come in the order: Start OnPreface? (OnFrame | OnEndOfRead | OnEndOfInput | OnRoom)*
// OnMalformedInput? OnClosed. Owned by shared_ptr because tasks posted to the loop keep it alive; the session
// it belongs to holds the only other reference.
class Connection final : public std::enable_shared_from_this<Connection>,
                         private ByteStream::ReadyHandler,
                         private EventLoop::BatchHook {
 public:
  // A Handler is told, on the loop, of what arrives. It may call anything of the connection's inside, Close
  // too. It must not destroy the connection inside.
  class Handler {
   public:
    virtual ~Handler() = default;
    // A frame arrived. Its bytes are valid during the call. Frames whose type is to be ignored are not shown.
    virtual void OnFrame(const Frame& frame) = 0;
    // Every frame of one read has been handled; output is about to be flushed.
    virtual void OnEndOfRead() {}
    // The peer writes no more, and ended at a frame's boundary (PROTOCOL.md section 13).
    virtual void OnEndOfInput() = 0;
    // The peer's preface has arrived, and so has ours been appended: frames may be sent.
    virtual void OnPreface() {}
    // There is room, after HasRoom has answered false.
    virtual void OnRoom() {}
    // What the peer sent breaks the protocol, and nothing after it can be understood. The handler says what
    // it wants to say to the peer if `tell_peer`, then calls CloseAfterFlush(why).
    virtual void OnMalformedInput(const absl::Status& why, bool tell_peer) = 0;
    // The connection is closed, for the reason that came first: Close's, CloseAfterFlush's, or a failure.
    // Told once; nothing follows.
    virtual void OnClosed(const absl::Status& why) = 0;
  };

  struct Options {
    // What this side accepts.
    FrameLimits limits;
    // Whether to send nothing until the peer's preface has arrived: the server's side (PROTOCOL.md [P2.2]).
    bool wait_for_preface = false;
    // How long the peer may take to send its preface; DEADLINE_EXCEEDED closes the connection then. So for
    // the two below.
    absl::Duration preface_timeout = absl::Seconds(10);
    // How long a frame may take to arrive, from its first byte to its last.
    absl::Duration frame_timeout = absl::Seconds(30);
    // How long waiting output may go without the peer taking a byte of it.
    absl::Duration write_timeout = absl::Seconds(30);
    // Nothing is read or handled while more output than this waits, so that a peer which does not read cannot
    // make us hold more.
    size_t max_waiting_output = 4 * 1024 * 1024;
  };

  // What was sent and received. Each is written by one thread at a time and read by any.
  struct Counters {
    std::atomic<uint64_t> reads{0};
    std::atomic<uint64_t> writes{0};
    std::atomic<uint64_t> bytes_read{0};
    std::atomic<uint64_t> bytes_written{0};

    // No locked instruction.
    static void Add(std::atomic<uint64_t>& sum, uint64_t n) {
      sum.store(sum.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
  };

  // Takes frames and the memory they lie in to the output queue. Valid only during the function it is given
  // to.
  class Output {
   public:
    // `size` bytes behind all that was appended before, for the caller to fill.
    char* Append(size_t size) {
      return queue_.Append(size, [this](size_t n) { return connection_.AllocateOutput(n); });
    }
    // `part` of `block`, without copying.
    void Append(Block block, absl::string_view part) { queue_.Append(std::move(block), part); }

   private:
    friend class Connection;
    Output(Connection& connection, OutputQueue& queue) : connection_(connection), queue_(queue) {}
    Connection& connection_;
    OutputQueue& queue_;
  };

  // `handler` and `loop` are not owned and must outlive the connection.
  static std::shared_ptr<Connection> Create(const Options& options, EventLoop& loop, Handler& handler,
                                            std::unique_ptr<ByteStream> stream);
  ~Connection() override;

  // Begins: appends our preface, unless that has to wait, and reads. On the loop.
  void Start();

  // Lets `append`, which takes an Output&, append whole frames, and sees to it that they are written.
  // `append` runs at once, perhaps under the output mutex: it must be quick and call nothing else of the
  // connection's. Returns false, without running it, if the connection is closed or has finished writing.
  // What happens before an append, on whatever thread, is sent before it. Thread-safe.
  template <typename F>
  bool Send(F&& append) ABSL_LOCKS_EXCLUDED(output_mutex_) {
    const Appended appended = Append(std::forward<F>(append));
    if (appended == Appended::kFlush) Flush();
    return appended != Appended::kClosed;
  }

  // Finishes writing once everything appended is written; nothing can be sent any more. Thread-safe.
  void FinishWriting() ABSL_LOCKS_EXCLUDED(output_mutex_);

  // Closes, without waiting for output. The handler is told before this returns, unless it was told already.
  // On the loop.
  void Close(const absl::Status& why) ABSL_LOCKS_EXCLUDED(output_mutex_);

  // Closes once what was appended is written and the peer has closed too, so that it can read the last of it:
  // a second after the last byte was written, or write_timeout after the last that the peer took, at the
  // latest. What the peer still sends is thrown away. On the loop.
  void CloseAfterFlush(absl::Status why) ABSL_LOCKS_EXCLUDED(output_mutex_);

  // Send in two steps, for a caller that appends under a lock of its own and must not hold it while the
  // system is called: after kFlush, and without that lock, it calls FlushAppended.
  enum class Appended { kClosed, kDone, kFlush };
  template <typename F>
  Appended Append(F&& append) ABSL_LOCKS_EXCLUDED(output_mutex_) {
    if (!loop_.InLoop() || !MayAppendUnlocked()) return AppendLocked(append);
    Output output(*this, loop_output_);
    append(output);
    loop_waiting_.store(loop_output_.bytes(), std::memory_order_relaxed);
    return Appended::kDone;
  }
  // The same for a frame of `size` bytes, which the caller fills at once, if that can be had without more
  // ado: where they go, or nullptr, and Append is to be asked.
  char* TryAppend(size_t size) ABSL_LOCKS_EXCLUDED(output_mutex_) {
    if (!loop_.InLoop() || !MayAppendUnlocked()) return nullptr;
    char* bytes = loop_output_.Append(size, [this](size_t n) { return AllocateOutput(n); });
    loop_waiting_.store(loop_output_.bytes(), std::memory_order_relaxed);
    return bytes;
  }
  void FlushAppended() ABSL_LOCKS_EXCLUDED(output_mutex_) { Flush(); }
  // The same, but the loop does it: for a caller who is about to append more, as others may be.
  void FlushAppendedOnLoop() { PostToLoop(&Connection::Flush); }

  // Writes what the stream takes just now, although the loop is in the middle of a batch: before Close, which
  // throws away what is not written. On the loop.
  void FlushNow() ABSL_LOCKS_EXCLUDED(output_mutex_);

  // How many writes have begun: what is appended after this was read can only be in later ones. Thread-safe.
  uint64_t writes_begun() const { return writes_begun_.load(std::memory_order_relaxed); }
  // Which of them, counted from 1, was the last of which the peer may have got anything; 0 is none. Once the
  // connection is closed none will be added, so what was appended when writes_begun() was no less has surely
  // not been written. Thread-safe.
  uint64_t last_write() ABSL_LOCKS_EXCLUDED(output_mutex_);

  // A block that any thread may fill and then give to Output::Append.
  Block AllocateOutput(size_t size);

  // Bytes appended and not yet written. Thread-safe.
  size_t waiting_output() const {
    return waiting_output_.load(std::memory_order_relaxed) + loop_waiting_.load(std::memory_order_relaxed);
  }

  // Whether so little waits to be written that more of a large message may be appended without keeping small
  // frames waiting for long. If not, the handler's OnRoom will tell when there is. Thread-safe.
  static constexpr size_t kRoom = 64 * 1024;
  bool HasRoom() { return waiting_output() < kRoom || WaitForRoom(); }

  // Whether the peer writes no more. On the loop.
  bool end_of_input() const {
    loop_.AssertInLoop();
    return end_of_input_;
  }

  EventLoop& loop() const { return loop_; }
  const std::string& peer() const { return peer_; }
  const Counters& counters() const { return counters_; }

 private:
  Connection(const Options& options, EventLoop& loop, Handler& handler, std::unique_ptr<ByteStream> stream);

  void SendPreface();

  // Input.
  void OnReady(bool readable, bool writable) override;
  bool OnPoll() override;
  bool pollable() const override { return !written_elsewhere_.load(std::memory_order_relaxed); }
  void Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  bool ReadOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void HandleBytes(absl::string_view input) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  bool HandlePreface(absl::string_view* input) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void Hold(absl::string_view input) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void LookForFailure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void HandleEndOfInput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  bool PauseReading() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void ResumeReading();
  void WatchPartialFrame() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  void OnReadTimeout();

  // Output.
  void OnEndOfBatch() override;
  void Cork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_) ABSL_LOCKS_EXCLUDED(output_mutex_);
  // Whether the loop, on which we are, may append to loop_output_. Opens its batch if it has not begun.
  bool MayAppendUnlocked() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (output_ended_.load(std::memory_order_relaxed)) return false;
    if (!in_batch_) Cork();
    return !has_late_output_.load(std::memory_order_acquire);
  }
  Appended AppendLocked(absl::FunctionRef<void(Output&)> append) ABSL_LOCKS_EXCLUDED(output_mutex_);
  void EndOutput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(output_mutex_);
  void GatherOutput() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_, output_mutex_);
  void FlushEarly() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_) ABSL_LOCKS_EXCLUDED(output_mutex_);
  void OnWritable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop_);
  bool StartWriting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(output_mutex_);
  void Flush() ABSL_LOCKS_EXCLUDED(output_mutex_);
  bool WriteWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(output_mutex_);
  void FollowWriting(bool see_to_it);
  bool HandleWritten(const IoResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(output_mutex_);
  // Sees to what follows from a flush and belongs to the loop: on the loop.
  void AfterFlush() ABSL_LOCKS_EXCLUDED(output_mutex_);
  bool WaitForRoom();
  void OnWriteTimeout();
  void PostToLoop(void (Connection::*task)());

  // Constant.
  const Options options_;
  EventLoop& loop_;
  Handler& handler_;
  // Its Read belongs to the loop, its Write to whoever has set writing_.
  const std::unique_ptr<ByteStream> stream_;
  const std::string peer_;
  const size_t early_flush_;
  Counters counters_;

  Mutex output_mutex_;
  OutputQueue output_ ABSL_GUARDED_BY(output_mutex_);
  // What was appended under the mutex while the loop is in a batch: behind what it has appended before.
  OutputQueue late_output_ ABSL_GUARDED_BY(output_mutex_);
  // Somebody is between taking pieces of output_ and dropping them.
  bool writing_ ABSL_GUARDED_BY(output_mutex_) = false;
  // The stream takes no more bytes until its handler is told so.
  bool blocked_ ABSL_GUARDED_BY(output_mutex_) = false;
  // The stream's handler was told so during a write: that write's kWouldBlock is out of date.
  bool writable_meanwhile_ ABSL_GUARDED_BY(output_mutex_) = false;
  // The loop is in a batch and flushes at its end.
  bool corked_ ABSL_GUARDED_BY(output_mutex_) = false;
  bool finish_writing_ ABSL_GUARDED_BY(output_mutex_) = false;
  bool output_closed_ ABSL_GUARDED_BY(output_mutex_) = false;
  absl::Status write_error_ ABSL_GUARDED_BY(output_mutex_);
  // The last write that has moved bytes.
  uint64_t last_write_ ABSL_GUARDED_BY(output_mutex_) = 0;
  // Stored under the mutex, before the bytes to write are looked at.
  std::atomic<uint64_t> writes_begun_{0};
  // output_.bytes(), for those who do not hold the mutex. Stored before reading_paused_ is looked at, as the
  // loop stores reading_paused_ before it looks here again: one of the two sees the other.
  std::atomic<size_t> waiting_output_{0};
  std::atomic<bool> reading_paused_{false};
  // HasRoom has answered false since OnRoom was last told. As reading_paused_ with respect to
  // waiting_output_.
  std::atomic<bool> room_wanted_{false};
  // Whether late_output_ holds something: the loop must append there too then. Stored under the mutex; what
  // happened before the loop's append includes the store, if it includes the append that made it.
  std::atomic<bool> has_late_output_{false};
  // Whether output_closed_ or finish_writing_ is true, for a loop without the mutex: a hint that may be late.
  std::atomic<bool> output_ended_{false};
  // Whether another thread than the loop's has written since the stream's handler was last told of anything.
  // The kernel has a thread that reads a socket while another writes to it wait, without polling.
  std::atomic<bool> written_elsewhere_{false};

  // Loop only, without annotations: it is used inside Append, where clang cannot see that this is the loop.
  OutputQueue loop_output_;
  // loop_output_.bytes(), stored by the loop for everybody.
  std::atomic<size_t> loop_waiting_{0};
  // corked_, as the loop knows it.
  bool in_batch_ = false;

  FrameAssembler assembler_ ABSL_GUARDED_BY(loop_);
  // Input that came with a read and is not handled yet, because output has to shrink first.
  Block held_ ABSL_GUARDED_BY(loop_);
  size_t held_size_ ABSL_GUARDED_BY(loop_) = 0;
  // The first bytes of the peer's preface, until all have arrived.
  std::string preface_ ABSL_GUARDED_BY(loop_);
  bool preface_done_ ABSL_GUARDED_BY(loop_) = false;
  // Frames in assembler_ or the loop's scratch memory are being handled.
  bool handling_ ABSL_GUARDED_BY(loop_) = false;
  bool closed_ ABSL_GUARDED_BY(loop_) = false;
  bool end_of_input_ ABSL_GUARDED_BY(loop_) = false;
  bool finished_writing_ ABSL_GUARDED_BY(loop_) = false;
  // Why to close once output is flushed; input is thrown away.
  std::optional<absl::Status> closing_ ABSL_GUARDED_BY(loop_);
  // Frames handled so far, and when the partial one now in assembler_ was first seen.
  uint64_t frames_ ABSL_GUARDED_BY(loop_) = 0;
  uint64_t timed_frame_ ABSL_GUARDED_BY(loop_) = 0;
  // counters_.bytes_written when write_timer_ was armed.
  uint64_t timed_bytes_ ABSL_GUARDED_BY(loop_) = 0;
  Timer read_timer_ ABSL_GUARDED_BY(loop_);
  Timer write_timer_ ABSL_GUARDED_BY(loop_);
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_CONNECTION_H_
