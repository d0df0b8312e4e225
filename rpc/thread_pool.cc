#include "ferry/rpc/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/signals_blocked.h"

namespace ferry {

ThreadPool::ThreadPool(const Options& options)
    : clock_(*options.clock), look_(options.look), queue_(std::max<size_t>(options.capacity, 1)) {
  const transport::SignalsBlocked blocked;
  const int threads = std::max(options.threads, 1);
  {
    transport::MutexLock lock(mutex_);
    idle_.reserve(static_cast<size_t>(threads));
  }
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, &worker = workers_.emplace_back()] { Work(worker); });
    pthread_setname_np(threads_.back().native_handle(),
                       absl::StrCat(options.name, "-", i).substr(0, 15).c_str());
  }
}

ThreadPool::~ThreadPool() {
  FERRY_CHECK(!InPool(), "a ThreadPool was destroyed on one of its own threads");
  Stop();
}

void ThreadPool::Stop() {
  {
    transport::MutexLock lock(mutex_);
    if (std::exchange(stopping_, true)) return;
    while (std::binary_semaphore* const wake = TakeIdle()) wake->release();
  }
  for (std::thread& thread : threads_) {
    if (thread.get_id() != std::this_thread::get_id()) thread.join();
  }
  if (!InPool()) return;
  // The others have run what waited, if there are any.
  Worker rest;
  Work(rest);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.detach();
  }
}

bool ThreadPool::InPool() const {
  return std::any_of(threads_.begin(), threads_.end(),
                     [](const std::thread& thread) { return thread.get_id() == std::this_thread::get_id(); });
}

size_t ThreadPool::Submit(absl::Span<Task* const> tasks) {
  size_t taken;
  std::binary_semaphore* wake;
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
    const bool others_come = at_work_ + coming_ > 0 && !IsWorthWaking();
    wake = taken > 0 && !others_come ? TakeIdle() : nullptr;
    // Whoever takes none of these before the next are submitted may be in a task that takes long.
    ++submits_;
    at_work_ = 0;
  }
  if (wake != nullptr) wake->release();
  return taken;
}

// A thread that sleeps, to be woken by releasing this; nullptr if all are awake. The one that fell idle last:
// its memory is still in the processor's cache.
std::binary_semaphore* ThreadPool::TakeIdle() {
  Worker* worker;
  if (idle_.empty()) {
    worker = std::exchange(watcher_, nullptr);
    if (worker == nullptr) return nullptr;
  } else {
    worker = idle_.back();
    idle_.pop_back();
  }
  worker->coming = true;
  ++coming_;
  return &worker->called;
}

void ThreadPool::SetCome(Worker& worker) {
  if (std::exchange(worker.coming, false)) --coming_;
}

void ThreadPool::Work(Worker& worker) {
  worker.since = clock_.Now();
  while (Task* const task = Take(worker)) {
    task->Run();
    ++worker.ran;
  }
}

// The next task, or nullptr when the pool ends.
Executor::Task* ThreadPool::Take(Worker& worker) {
  Task* task;
  bool more;
  std::binary_semaphore* wake = nullptr;
  {
    transport::MutexLock lock(mutex_);
    if (worker.ran == kSample) Report(worker);
    while (count_ == 0) {
      if (stopping_) return nullptr;
      Report(worker);
      Rest(worker);
    }
    task = queue_[first_];
    if (++first_ == queue_.size()) first_ = 0;
    ++taken_;
    if (std::exchange(worker.took_after, submits_) != submits_) ++at_work_;
    more = --count_ > 0;
    if (more && IsWorthWaking()) wake = TakeIdle();
  }
  if (wake != nullptr) wake->release();
  SetMoreWaiting(more);
  return task;
}

bool ThreadPool::IsWorthWaking() const {
  return watcher_ == nullptr || task_time_ * static_cast<int64_t>(count_) > kWorthWaking;
}

// Learns from the tasks that `worker` ran since it last reported.
void ThreadPool::Report(Worker& worker) {
  if (worker.ran == 0) return;
  const transport::Instant now = clock_.Now();
  const absl::Duration taken = (now - worker.since) / worker.ran;
  const bool first = task_time_ == absl::InfiniteDuration();
  if (!first && taken <= task_time_) {
    task_time_ += (taken - task_time_) / 8;
  } else if (first || now - worker.since > kLongSample || !WasInterrupted(worker)) {
    task_time_ = taken;
  }
  worker.ran = 0;
  worker.since = now;
}

// Whether others had the processor instead, since this was last asked.
bool ThreadPool::WasInterrupted(Worker& worker) const {
  const int64_t interruptions = clock_.Interruptions();
  return interruptions != std::exchange(worker.interruptions, interruptions);
}

// Sleeps until it is called, or sees as the thread that watches that it is needed.
void ThreadPool::Rest(Worker& worker) {
  if (std::exchange(worker.took_after, 0) == submits_) --at_work_;
  if (watcher_ == nullptr && taken_ - worker.taken_before >= kSample && threads_.size() > 1) Watch(worker);
  SetCome(worker);
  if (count_ == 0 && !stopping_) {
    idle_.push_back(&worker);
    mutex_.Unlock();
    worker.called.acquire();
    mutex_.Lock();
  }
  SetCome(worker);
  worker.taken_before = taken_;
  worker.since = clock_.Now();
}

// Returns when it was called, when tasks wait that are taken slowly or not at all, and when none come any
// more.
void ThreadPool::Watch(Worker& worker) {
  watcher_ = &worker;
  for (;;) {
    const uint64_t taken = taken_;
    mutex_.Unlock();
    const bool called = worker.called.try_acquire_for(absl::ToChronoNanoseconds(look_));
    mutex_.Lock();
    if (called) return;
    if (watcher_ != &worker) {
      // Just now.
      worker.called.acquire();
      return;
    }
    const auto taken_since = static_cast<int64_t>(taken_ - taken);
    // None come, or they take so long that more threads are worth their waking.
    if (taken_since == 0 || (count_ > 0 && taken_since * kWorthWaking < look_)) break;
  }
  watcher_ = nullptr;
}

}  // namespace ferry
