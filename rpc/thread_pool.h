// A fixed number of threads behind a bounded queue.
#ifndef FERRY_RPC_THREAD_POOL_H_
#define FERRY_RPC_THREAD_POOL_H_

#include <cstddef>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "ferry/rpc/executor.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ThreadPool is an Executor of a fixed number of threads, made when it is. A thread that has taken a task
// while others wait wakes another thread before it runs it: so all get to work when tasks take long, and few
// are woken when they do not.
//
// Thread-safe. Destroying it runs the tasks that still wait, and waits for all of them; that must not happen
// on one of its own threads.
class ThreadPool final : public Executor {
 public:
  struct Options {
    int threads = 4;
    // How many tasks may wait.
    size_t capacity = 4096;
    // Of the threads, with "-0" and so on behind it; 15 characters are shown.
    std::string name = "ferry-exec";
  };

  explicit ThreadPool(const Options& options);
  ~ThreadPool() override;

  // What destroying it does; from then on it takes no tasks. Thread-compatible. Does nothing the second time.
  void Stop();

  size_t Submit(absl::Span<Task* const> tasks) override ABSL_LOCKS_EXCLUDED(mutex_);
  size_t capacity() const override { return queue_.size(); }

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);
  Task* Take() ABSL_LOCKS_EXCLUDED(mutex_);
  bool TakeIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Each release lets one idle thread go: it has been counted out of idle_ before.
  std::counting_semaphore<> wake_{0};
  mutable transport::Mutex mutex_;
  // A ring: the waiting tasks are the count_ from first_ on. Its size never changes.
  std::vector<Task*> queue_;
  size_t first_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace ferry

#endif  // FERRY_RPC_THREAD_POOL_H_
