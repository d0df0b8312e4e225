// What a coroutine may wait for beside calls and streams: time, another thread, a callback, other tasks.
#ifndef FERRY_RPC_WAITING_H_
#define FERRY_RPC_WAITING_H_

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/resumption.h"
#include "ferry/rpc/task.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// All of these are for coroutines that are Tasks, which have a scope, and are meant for `co_await` in the
// same expression.

// A Sleep waits for a time, on the scope's event loop, which may fire some tens of microseconds late.
// `co_await Sleep(d)` is OK when the time has passed, CANCELLED as soon as the scope is stopped, and
// DEADLINE_EXCEEDED when the scope's time ended before. The coroutine runs on in the loop. Zero or less lets
// what the loop has to do come first. FAILED_PRECONDITION, at once, in a process that was forked since the
// loop was made.
class [[nodiscard]] Sleep {
 public:
  explicit Sleep(absl::Duration duration) : duration_(duration) {}

  bool await_ready() const { return false; }
  template <typename Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    return Begin(*coroutine.promise().scope(), coroutine);
  }
  absl::Status await_resume();

 private:
  class Waiter;

  bool Begin(CallScope& scope, std::coroutine_handle<> coroutine);

  const absl::Duration duration_;
  absl::Status refused_;
  std::shared_ptr<Waiter> waiter_;
};

// A SwitchTo moves the coroutine to another thread: to one of an executor's, or to an event loop's. The
// status is OK there. An executor whose queue is full does not take it, nor one that has ended, and the
// coroutine goes on where it is, with RESOURCE_EXHAUSTED; in a process that was forked since the loop was
// made, with FAILED_PRECONDITION. The executor or loop must live as long as the coroutine.
class [[nodiscard]] SwitchTo final : private Executor::Task {
 public:
  explicit SwitchTo(Executor& executor) : executor_(&executor) {}
  explicit SwitchTo(transport::EventLoop& loop) : loop_(&loop) {}
  SwitchTo(const SwitchTo&) = delete;
  SwitchTo& operator=(const SwitchTo&) = delete;

  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> coroutine);
  absl::Status await_resume() { return std::move(refused_); }

 private:
  void Run() override { coroutine_.resume(); }

  Executor* const executor_ = nullptr;
  transport::EventLoop* const loop_ = nullptr;
  std::coroutine_handle<> coroutine_;
  absl::Status refused_;
};

// A Resumer is how a callback hands a Callback's coroutine its value: called once, on any thread. The
// coroutine runs on inside.
template <typename T>
class Resumer {
 public:
  Resumer(std::optional<T>& value, Resumption& resumption) : value_(&value), resumption_(&resumption) {}
  void operator()(T value) const {
    value_->emplace(std::move(value));
    resumption_->Resume();
  }

 private:
  std::optional<T>* value_;
  Resumption* resumption_;
};

// A Callback waits for what an interface with callbacks brings:
//
//   int answer = co_await ferry::Callback<int>([&](ferry::Resumer<int> resume) { disk.Read(key, resume); });
//
// The function is run at once, in the coroutine's scope, and what it starts must call the resumer, which is
// copyable and 16 bytes. If that can be cancelled, a std::stop_callback on the scope's token does it.
template <typename T, typename Start>
class [[nodiscard]] CallbackAwaiter {
 public:
  explicit CallbackAwaiter(Start start) : start_(std::move(start)) {}
  CallbackAwaiter(const CallbackAwaiter&) = delete;
  CallbackAwaiter& operator=(const CallbackAwaiter&) = delete;

  bool await_ready() const { return false; }
  template <typename Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    {
      const CallScope::Use scope(coroutine.promise().scope());
      std::move(start_)(Resumer<T>(value_, resumption_));
    }
    return resumption_.Suspend(coroutine);
  }
  T await_resume() { return *std::move(value_); }

 private:
  Start start_;
  std::optional<T> value_;
  Resumption resumption_;
};

template <typename T, typename Start>
CallbackAwaiter<T, Start> Callback(Start start) {
  return CallbackAwaiter<T, Start>(std::move(start));
}

// An All runs tasks side by side, each until it first waits, and waits for all of them; `co_await All(tasks)`
// is their results in the order of the tasks. They run in the scope of the coroutine that waits. Calls need
// no All to run side by side: they are under way before they are waited for.
template <typename T>
class [[nodiscard]] All {
  static_assert(!std::is_void_v<T>, "tasks that run side by side have results: an absl::Status, say");

 public:
  explicit All(std::vector<Task<T>> tasks)
      : tasks_(std::move(tasks)), results_(tasks_.size()), left_(tasks_.size() + 1) {}
  All(const All&) = delete;
  All& operator=(const All&) = delete;

  bool await_ready() const { return tasks_.empty(); }
  template <typename Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    CallScope& scope = *coroutine.promise().scope();
    for (size_t i = 0; i < tasks_.size(); ++i) Run(std::move(tasks_[i]), scope, results_[i]);
    CountDown();
    return resumption_.Suspend(coroutine);
  }
  std::vector<T> await_resume() {
    std::vector<T> results;
    results.reserve(results_.size());
    for (std::optional<T>& result : results_) results.push_back(*std::move(result));
    return results;
  }

 private:
  RootCoroutine Run(Task<T> task, CallScope& scope, std::optional<T>& result) {
    result.emplace(co_await task.In(scope));
    // Its frame goes before those that it may refer to.
    task = Task<T>();
    CountDown();
  }
  void CountDown() {
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) resumption_.Resume();
  }

  std::vector<Task<T>> tasks_;
  std::vector<std::optional<T>> results_;
  // Tasks that have not ended, and one for the starting of them.
  std::atomic<size_t> left_;
  Resumption resumption_;
};

}  // namespace ferry

#endif  // FERRY_RPC_WAITING_H_
