// A fixed number of threads behind a bounded queue.
#ifndef FERRY_RPC_THREAD_POOL_H_
#define FERRY_RPC_THREAD_POOL_H_

#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/executor.h"

namespace ferry {

// A ThreadPool is an Executor of a fixed number of threads, made when it is.
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

  size_t Submit(absl::Span<Task* const> tasks) override ABSL_LOCKS_EXCLUDED(mutex_);
  size_t capacity() const override { return queue_.size(); }

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);

  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
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
