// A fixed number of threads behind a bounded queue.
#ifndef FERRY_RPC_THREAD_POOL_H_
#define FERRY_RPC_THREAD_POOL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "ferry/rpc/executor.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ThreadPool is an Executor of a fixed number of threads, made when it is. A thread that has taken a task
// while others wait wakes another thread before it runs it, so that all get to work when tasks take long.
//
// Waking a thread takes longer than a short task: where the tasks that wait would be done by then, and a
// thread is at work that has taken one since the last were submitted, or is on its way, nobody is woken for
// them. Should one of them take long after all, those behind it are taken within two looks by a thread that
// watches: the last that fell idle while many tasks were taken looks whether others are taken as fast as they
// should be, until none come.
//
// Thread-safe. Destroying it stops it; that must not happen on one of its own threads unless it was stopped.
class ThreadPool final : public Executor {
 public:
  struct Options {
    int threads = 4;
    // How many tasks may wait.
    size_t capacity = 4096;
    // Of the threads, with "-0" and so on behind it; 15 characters are shown.
    std::string name = "ferry-exec";
    // What tells how long tasks take; not owned.
    const transport::Clock* clock = &transport::Clock::Real();
    // How often the thread that watches looks.
    absl::Duration look = absl::Milliseconds(1);
  };

  // Another thread is woken for tasks that would take one thread longer than this. A thread needs a few dozen
  // microseconds to wake.
  static constexpr absl::Duration kWorthWaking = absl::Microseconds(50);

  explicit ThreadPool(const Options& options);
  ~ThreadPool() override;

  // Runs the tasks that still wait, and waits for all of them; takes none from then on. Thread-compatible.
  // Does nothing the second time. On one of its own threads it waits for the others, and then runs what still
  // waits itself: inside the task that it was called by. The pool must live until that thread has ended.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether the calling thread is one of the pool's, before it is stopped.
  bool InPool() const;

  size_t Submit(absl::Span<Task* const> tasks) override ABSL_LOCKS_EXCLUDED(mutex_);
  size_t capacity() const override { return queue_.size(); }

 private:
  // A thread learns how long tasks take from so many in a row, or fewer before it falls idle; and one may
  // watch if so many were taken since it woke.
  static constexpr int kSample = 16;
  // Longer than others have the processor at a time.
  static constexpr absl::Duration kLongSample = absl::Milliseconds(10);

  // One of the threads. Belongs to it, but for `called`. Lives as long as the pool.
  struct Worker {
    // Of the tasks not reported yet: how many, and when the first began.
    int ran = 0;
    transport::Instant since;
    // The clock's interruptions when it last looked.
    int64_t interruptions = 0;
    // What taken_ was when it woke.
    uint64_t taken_before = 0;
    // What submits_ was when it last took a task; 0 while it rests.
    uint64_t took_after = 0;
    // It was called and has not come yet.
    bool coming = false;
    // Released by whoever calls it: has taken it out of idle_ or watcher_ and set coming.
    std::binary_semaphore called{0};
  };

  void Work(Worker& worker) ABSL_LOCKS_EXCLUDED(mutex_);
  Task* Take(Worker& worker) ABSL_LOCKS_EXCLUDED(mutex_);
  void Report(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool WasInterrupted(Worker& worker) const;
  void Rest(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetCome(Worker& worker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsWorthWaking() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::binary_semaphore* TakeIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const transport::Clock& clock_;
  const absl::Duration look_;
  mutable transport::Mutex mutex_;
  // A ring: the waiting tasks are the count_ from first_ on. Its size never changes.
  std::vector<Task*> queue_;
  size_t first_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  // How many tasks threads have taken.
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  // One more than how often tasks were submitted; how many threads have taken one since and do not rest; and
  // how many are coming.
  uint64_t submits_ ABSL_GUARDED_BY(mutex_) = 1;
  int at_work_ ABSL_GUARDED_BY(mutex_) = 0;
  int coming_ ABSL_GUARDED_BY(mutex_) = 0;
  // About how long a task takes. Grows at once, and falls slowly. A sample in which a thread lost its
  // processor does not make it grow, unless it took more than kLongSample.
  absl::Duration task_time_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  // Those that sleep until they are called, but for the one that watches.
  std::vector<Worker*> idle_ ABSL_GUARDED_BY(mutex_);
  Worker* watcher_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Worker> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace ferry

#endif  // FERRY_RPC_THREAD_POOL_H_
