#include "ferry/rpc/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <utility>

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

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  {
    transport::MutexLock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    idle_ = 0;
  }
  wake_.release(static_cast<std::ptrdiff_t>(threads_.size()));
  for (std::thread& thread : threads_) thread.join();
}

size_t ThreadPool::Submit(absl::Span<Task* const> tasks) {
  size_t taken;
  bool wake;
  {
    transport::MutexLock lock(mutex_);
    taken = stopping_ ? 0 : std::min(tasks.size(), queue_.size() - count_);
    size_t next = first_ + count_;
    if (next >= queue_.size()) next -= queue_.size();
    for (size_t i = 0; i < taken; ++i) {
      queue_[next] = tasks[i];
      if (++next == queue_.size()) next = 0;
    }
    count_ += taken;
    wake = taken > 0 && TakeIdle();
  }
  if (wake) wake_.release();
  return taken;
}

// Whether there is an idle thread, which is to be woken.
bool ThreadPool::TakeIdle() {
  if (idle_ == 0) return false;
  --idle_;
  return true;
}

// The next task, or nullptr when the pool ends.
Executor::Task* ThreadPool::Take() {
  Task* task;
  bool more;
  bool wake;
  {
    transport::MutexLock lock(mutex_);
    while (count_ == 0) {
      if (stopping_) return nullptr;
      ++idle_;
      mutex_.Unlock();
      wake_.acquire();
      mutex_.Lock();
    }
    task = queue_[first_];
    if (++first_ == queue_.size()) first_ = 0;
    more = --count_ > 0;
    wake = more && TakeIdle();
  }
  if (wake) wake_.release();
  SetMoreWaiting(more);
  return task;
}

void ThreadPool::Work() {
  while (Task* task = Take()) task->Run();
}

}  // namespace ferry
