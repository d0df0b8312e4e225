// An executor that runs its tasks when the test says so.
#ifndef FERRY_TESTS_TESTING_MANUAL_EXECUTOR_H_
#define FERRY_TESTS_TESTING_MANUAL_EXECUTOR_H_

#include <algorithm>
#include <cstddef>
#include <deque>

#include "absl/types/span.h"
#include "ferry/rpc/executor.h"

namespace ferry::test {

// A ManualExecutor holds tasks until it is told to run them, on the test's own thread.
//
// Thread-compatible.
class ManualExecutor final : public Executor {
 public:
  explicit ManualExecutor(size_t capacity = 1000) : capacity_(capacity) {}

  size_t Submit(absl::Span<Task* const> tasks) override {
    const size_t taken = std::min(tasks.size(), capacity_ - tasks_.size());
    tasks_.insert(tasks_.end(), tasks.begin(), tasks.begin() + static_cast<ptrdiff_t>(taken));
    return taken;
  }
  size_t capacity() const override { return capacity_; }

  size_t waiting() const { return tasks_.size(); }
  // Runs the task that has waited longest; false if none waits.
  bool RunOne() {
    if (tasks_.empty()) return false;
    Task* const task = tasks_.front();
    tasks_.pop_front();
    task->Run();
    return true;
  }
  void RunAll() {
    while (RunOne()) {
    }
  }

 private:
  const size_t capacity_;
  std::deque<Task*> tasks_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_MANUAL_EXECUTOR_H_
