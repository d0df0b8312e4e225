// One thread's work: sockets that are ready, timers that are due, tasks from other threads.
#ifndef FERRY_TRANSPORT_EVENT_LOOP_H_
#define FERRY_TRANSPORT_EVENT_LOOP_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/check.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/fork_guard.h"
#include "ferry/transport/mutex.h"
#include "ferry/transport/poll_policy.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"

namespace ferry::transport {

// An EventLoop runs handlers of ready file descriptors, timers and posted tasks, one after the other, on the
// one thread that calls Run: the loop's own.
//
// A loop that has just been busy polls for a while before it blocks (PollPolicy). A thread that would only
// wait for the loop may run it itself for that time, as a Guest: then nothing has to be handed to and fro.
// "The loop's thread" is then the guest's.
//
// It is a lock capability in the eyes of clang's thread-safety analysis: what is GUARDED_BY(loop_) is touched
// on the loop's thread only, and AssertInLoop() shows that one is there.
//
// Each round of the loop is a batch: wait; ready descriptors; due timers; posted tasks; then the end-of-batch
// hooks, once each. Output that is put off to the end of the batch leaves in one system call.
class ABSL_LOCKABLE EventLoop {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // A Handler is told of the epoll events of a descriptor.
  class Handler {
   public:
    virtual ~Handler() = default;
    // `events` are EPOLLIN and its kin. May unwatch and destroy any handler, this one too.
    virtual void OnEvents(uint32_t events) = 0;
    // Looks by itself whether there is something to read, and does what there is; whether there was. Called
    // instead of waiting for events while the loop polls, as long as the handler is pollable.
    virtual bool OnPoll() { return false; }
    virtual bool pollable() const { return false; }
  };

  // A BatchHook runs once at the end of the batch in which it was added.
  class BatchHook {
   public:
    virtual ~BatchHook() = default;
    virtual void OnEndOfBatch() = 0;

   private:
    friend class EventLoop;
    bool added_ = false;
  };

  struct Options {
    // Not owned.
    const Clock* clock = &Clock::Real();
    // Where blocks come from; not owned, must outlive the loop. nullptr gives the loop a pool of its own.
    BufferPool* buffers = nullptr;
    // For how long the loop polls at most before it blocks; zero turns polling off.
    absl::Duration poll_time = absl::ZeroDuration();
  };

  // While a Turn lives, the thread is the loop's. For the loop itself.
  class Turn {
   public:
    explicit Turn(EventLoop* loop) : previous_(std::exchange(current_, loop)), binding_(loop->blocks_) {}
    ~Turn() { current_ = previous_; }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    EventLoop* const previous_;
    BlockCache::Binding binding_;
  };

  // While a Visit lives, the loop does, if it did when that began.
  class Visit {
   public:
    explicit Visit(EventLoop* loop) : visitors_(loop->visitors_) {
      visitors_.fetch_add(1, std::memory_order_relaxed);
    }
    ~Visit() { visitors_.fetch_sub(1, std::memory_order_release); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    std::atomic<int>& visitors_;
  };

  // A Guest runs a loop on a thread that is not its own, while nobody else does.
  //
  // Thread-compatible. Tasks, timers and handlers run on the guest's thread meanwhile, but for PostToOwner's.
  class Guest {
   public:
    // Takes the loop, if it is lent out and nobody runs it: entered() says so. If nobody has run it for
    // kTrustTime, handles what has come up meanwhile. `loop` must outlive this.
    explicit Guest(EventLoop& loop);
    // Gives it back: to the next guest or, if it is wanted or after HandBack, to its own thread.
    ~Guest();
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

    bool entered() const { return turn_.has_value(); }

    // Runs batches until `done` is true; false if the loop's own thread is wanted before: HandBack is next
    // then. REQUIRES: entered().
    bool RunUntil(absl::FunctionRef<bool()> done);

    // Gives the loop back as the destructor does; and to its own thread if `wanted`, which is asked when any
    // other thread could have it, says so: for there may be something to wait for of which a thread that
    // found this guest here has told nobody. REQUIRES: entered().
    void Leave(absl::FunctionRef<bool()> wanted);

    // Gives the loop to its own thread, for there is something to wait for. REQUIRES: entered().
    void HandBack();

   private:
    EventLoop& loop_;
    std::optional<Visit> visit_;
    std::optional<Turn> turn_;
  };

  // An error if the process is out of file descriptors.
  static absl::StatusOr<std::unique_ptr<EventLoop>> Create(const Options& options);

  // REQUIRES: Run has returned, or was never called. Tasks still queued are destroyed without running, on
  // this thread. May come as soon as a task that is being posted has run, or Run has been stopped: waits for
  // the Post or Stop.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Makes the calling thread the loop's until Stop, and runs batches.
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes the calling thread the loop's for as long as this takes: runs batches, without ever waiting, until
  // one finds nothing to do. For tests, which move a ManualClock between calls. REQUIRES: no thread is in
  // Run.
  void RunUntilIdle() ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes Run return at the end of the batch. Thread-safe; may come before Run.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `task` on the loop's thread in a later part of this batch or in the next. Tasks run in the order
  // they were posted; those posted by tasks run in the next batch. Thread-safe. Tasks still queued when the
  // loop is destroyed are destroyed without running.
  void Post(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  // As Post, but for work that may call back into an application: it runs on the loop's own thread, which
  // takes the loop back for it. Thread-safe.
  void PostToOwner(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  // Has the loop's own thread lend the loop to guests after this batch. It takes the loop back by itself once
  // no guest has come for kLoanTime, when a timer is due, and when something is posted while nobody runs it.
  // A loop that does not poll, so that few system calls are wanted, trusts guests for longer and longer while
  // they keep coming, up to kLongLoanTime. On the loop.
  void RequestLoan();
  static constexpr absl::Duration kLoanTime = absl::Microseconds(300);
  static constexpr absl::Duration kLongLoanTime = absl::Milliseconds(32);
  static constexpr absl::Duration kTrustTime = absl::Microseconds(100);

  // Whether the loop is lent out, as far as its own thread knows. Thread-safe.
  bool is_lent() const { return lent_.load(std::memory_order_relaxed); }

  // Whether the loop is lent out and nobody runs it just now: what it knows of its sockets may be out of
  // date. Thread-safe.
  bool is_free() const { return state_.load() == State::kFree; }

  // For a thread that has given the loop something to wait for other than by Post: sees to it that somebody
  // runs it. Thread-safe.
  void EnsureRun() {
    if (state_.load() == State::kFree) Wake();
  }

  // Whether a guest runs the loop. On the loop's thread.
  bool run_by_guest() const { return run_by_guest_ && !fork_guard_.forked(); }

  // Waits until no other thread is inside Post, Stop or a Guest. REQUIRES: none comes any more.
  void AwaitVisitors() const;

  // For a loop that will not run any more but may still be posted to: destroys the tasks that are queued, on
  // this thread, and from now on those that are posted, as they come. REQUIRES: as for the destructor.
  void DropTasks() ABSL_LOCKS_EXCLUDED(mutex_);

  // Says whether this process has the loop's thread. In one that was forked since nothing can be run: what is
  // posted is destroyed at once.
  const ForkGuard& fork_guard() const { return fork_guard_; }

  // Whether the calling thread is the loop's. Thread-safe.
  bool InLoop() const { return current_ == this; }

  // Whether the calling thread runs any EventLoop: it must not wait for another call then.
  static bool InAnyLoop() { return current_ != nullptr; }

  // Dies unless called on the loop's thread.
  void AssertInLoop() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
    FERRY_CHECK(InLoop(), "this belongs to another thread's event loop");
  }

  // The rest belongs to the loop.

  // Tells `handler` of `events` (EPOLLIN | EPOLLET and so on) of `fd`, until Unwatch. REQUIRES: `fd` is not
  // watched, and neither does `handler` watch another.
  absl::Status Watch(const FileDescriptor& fd, uint32_t events, Handler& handler);
  // Tells `handler` of other `events` of `fd` from now on, and at once of those that hold just now. Does
  // nothing if `fd` is not watched any more. Unlike the rest Thread-safe; `fd` must be open and the loop
  // there.
  void ChangeWatch(const FileDescriptor& fd, uint32_t events, Handler& handler) const {
    epoll_.Change(fd, events, &handler);
  }
  // No handler of `fd` is called from now on, in this batch either.
  void Unwatch(const FileDescriptor& fd, Handler& handler);

  // Runs `hook` at the end of this batch; does nothing if it is added already.
  void AddBatchHook(BatchHook& hook);
  // `hook` does not run. Does nothing if it is not added.
  void RemoveBatchHook(BatchHook& hook);

  // The time as of this batch's start: no system call. For deadlines and timers, not for measuring.
  Instant now() const { return now_; }

  // The time as it was last read on the loop, which is in or before this batch; and the time now, which it is
  // from then on. On the loop.
  Instant last_read_time() const { return last_read_time_; }
  Instant ReadTime() { return last_read_time_ = clock_->Now(); }

  // Whether there are more events in this batch, of other descriptors. On the loop.
  bool has_events_to_come() const { return !events_to_come_.empty(); }
  const Clock& clock() const { return *clock_; }

  TimerQueue& timers() { return timers_; }

  // Memory that a handler may read into, shared by everything on the loop: its contents do not outlive the
  // handler.
  static constexpr size_t kScratchBytes = 256 * 1024;
  absl::Span<char> scratch() { return {scratch_.data(), scratch_.size()}; }

  // Blocks, from the loop's own cache first.
  BlockCache& blocks() { return blocks_; }

 private:
  // What the loop is about, as far as those who wake it must know.
  //
  // Post stores kWorkPosted after it has queued its task; only who runs the loop stores the others. All go
  // through exchange or compare_exchange on this one atomic, so either Post finds kAsleep and signals, or the
  // loop, about to sleep, finds kWorkPosted and does not.
  //
  // kFree: lent out, and nobody runs it. A guest changes it to kRunning and back. Whoever changes it to
  // kWorkPosted makes the loop its own thread's again, and tells that by own_turn_. Changes to kFree release
  // and those from it acquire all that belongs to the loop.
  enum class State : uint8_t { kRunning, kWorkPosted, kAsleep, kFree };

  EventLoop(const Options& options, std::unique_ptr<BufferPool> own_buffers, Epoll epoll, WakeUp wake_up,
            WakeUp own_turn);

  void Wake();
  void Lend();
  void Trim();
  bool RunBatch(bool may_wait) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Poll();
  bool PollOnce();
  size_t WaitForEvents(bool may_wait);
  int64_t NanosToSleep();
  void RunHandlers(size_t ready);
  bool RunTimers();
  bool RunTasks() ABSL_LOCKS_EXCLUDED(mutex_);
  bool RunHooks();

  // The loop that this thread runs; nullptr on other threads.
  static thread_local constinit EventLoop* current_;

  const ForkGuard fork_guard_;
  const Clock* const clock_;
  const std::unique_ptr<BufferPool> own_buffers_;  // or nullptr
  const WakeUp wake_up_;
  const WakeUp own_turn_;

  std::atomic<State> state_{State::kRunning};
  std::atomic<bool> stop_{false};
  // Whether the own thread is in Lend; orders nothing.
  std::atomic<bool> lent_{false};
  // When the last guest ran its last batch, in nanoseconds of the clock. Written by guests in turn, read by
  // the loop's own thread; orders nothing.
  std::atomic<int64_t> last_guest_{0};
  // When the first timer is due, as of the last time that the loop was free: likewise.
  std::atomic<int64_t> next_due_{0};
  // How many threads are in Post, Stop or a Guest. They count themselves in before the loop can notice them,
  // and out (release) after their last use of the loop; the destructor waits (acquire) for 0.
  std::atomic<int> visitors_{0};

  Mutex mutex_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<Task> owner_tasks_ ABSL_GUARDED_BY(mutex_);
  // Whether owner_tasks_ is not empty: a hint for guests.
  std::atomic<bool> owner_wanted_{false};
  bool dropping_ ABSL_GUARDED_BY(mutex_) = false;

  // The rest belongs to the loop.
  Epoll epoll_;
  std::array<epoll_event, 256> events_;
  absl::Span<epoll_event> events_to_come_;  // of the batch being handled
  // The handler that alone had events in the last batch, if it is pollable.
  Handler* hot_ = nullptr;
  unsigned polls_ = 0;
  PollPolicy poll_policy_;
  bool run_by_guest_ = false;
  bool loan_requested_ = false;
  Instant last_read_time_;
  Instant now_;
  TimerQueue timers_;
  std::vector<Task> running_;      // empty but in RunTasks; keeps its capacity
  std::vector<BatchHook*> hooks_;  // nullptr where a hook was run or removed
  std::vector<char> scratch_;
  BlockCache blocks_;
  // Due when blocks that a quiet loop keeps are to be looked at; armed while there are any.
  Timer trim_timer_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_EVENT_LOOP_H_
