#include "ferry/rpc/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ferry {

ThreadPool::ThreadPool(const Options& options) : queue_(std::max<size_t>(options.capacity, 1)) {
  // Signals are for the application's own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < std::max(options.threads, 1); ++i) {
    threads_.emplace_back([this] { Work(); });
    pthread_setname_np(threads_.back().native_handle(),
                       absl::StrCat(options.name, "-", i).substr(0, 15).c_str());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

size_t ThreadPool::Submit(absl::Span<Task* const> tasks) {
  absl::MutexLock lock(&mutex_);
  const size_t taken = std::min(tasks.size(), queue_.size() - count_);
  for (size_t i = 0; i < taken; ++i) queue_[(first_ + count_++) % queue_.size()] = tasks[i];
  for (size_t i = std::min(taken, idle_); i > 0; --i) wake_.Signal();
  return taken;
}

void ThreadPool::Work() {
  for (;;) {
    Task* task;
    {
      absl::MutexLock lock(&mutex_);
      ++idle_;
      while (count_ == 0 && !stopping_) wake_.Wait(&mutex_);
      --idle_;
      if (count_ == 0) return;
      task = queue_[first_];
      first_ = (first_ + 1) % queue_.size();
      --count_;
    }
    task->Run();
  }
}

}  // namespace ferry
