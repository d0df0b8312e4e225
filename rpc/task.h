// Coroutines: work that waits without keeping a thread.
#ifndef FERRY_RPC_TASK_H_
#define FERRY_RPC_TASK_H_

#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/transport/check.h"

namespace ferry {

template <typename T>
class Task;

// What a coroutine waits with for `awaitable`.
template <typename Awaitable>
decltype(auto) AwaiterOf(Awaitable&& awaitable) {
  if constexpr (requires { std::forward<Awaitable>(awaitable).operator co_await(); }) {
    return std::forward<Awaitable>(awaitable).operator co_await();
  } else {
    return std::forward<Awaitable>(awaitable);
  }
}

// A TaskFrame is what the coroutines of all Tasks have in common: the scope that is the thread's current one
// while they run, on whatever thread, and who waits for them.
//
// Belongs to the coroutine.
class TaskFrame {
 public:
  // For whoever starts the task. `scope` must outlive it.
  void Prepare(CallScope* scope, std::coroutine_handle<> waiting) {
    scope_ = scope;
    waiting_ = waiting;
  }

  CallScope* scope() const { return scope_; }

  // The coroutine begins to run on this thread, and stops.
  void Enter() { outer_scope_ = CallScope::Exchange(scope_); }
  void Leave() { CallScope::Exchange(outer_scope_); }

  struct FirstAwaiter : std::suspend_always {
    TaskFrame* frame;
    void await_resume() const noexcept { frame->Enter(); }
  };
  FirstAwaiter initial_suspend() noexcept { return {{}, this}; }

  struct LastAwaiter : std::suspend_always {
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      TaskFrame& frame = coroutine.promise();
      frame.Leave();
      return frame.waiting_;
    }
  };
  LastAwaiter final_suspend() noexcept { return {}; }

  // Ferry and its users report errors by absl::Status.
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }

  // What the coroutine waits with for anything at all: its scope leaves the thread with it.
  template <typename Awaiter>
  class ScopedAwaiter {
   public:
    template <typename Awaitable>
    ScopedAwaiter(TaskFrame& frame, Awaitable&& awaitable)
        : frame_(frame), awaiter_(AwaiterOf(std::forward<Awaitable>(awaitable))) {}

    bool await_ready() { return awaiter_.await_ready(); }

    // Not inlined: Clang before 17 would keep its variables in the coroutine's frame, where it may be running
    // on by then.
    template <typename Promise>
    ABSL_ATTRIBUTE_NOINLINE auto await_suspend(std::coroutine_handle<Promise> coroutine) {
      // The coroutine may run on elsewhere before the awaiter's function has returned.
      left_ = true;
      frame_.Leave();
      if constexpr (std::same_as<decltype(awaiter_.await_suspend(coroutine)), bool>) {
        if (awaiter_.await_suspend(coroutine)) return true;
        left_ = false;
        frame_.Enter();
        return false;
      } else {
        return awaiter_.await_suspend(coroutine);
      }
    }

    decltype(auto) await_resume() {
      if (left_) frame_.Enter();
      return awaiter_.await_resume();
    }

   private:
    TaskFrame& frame_;
    Awaiter awaiter_;
    bool left_ = false;
  };

  template <typename Awaitable>
  auto await_transform(Awaitable&& awaitable) {
    return ScopedAwaiter<decltype(AwaiterOf(std::forward<Awaitable>(awaitable)))>(
        *this, std::forward<Awaitable>(awaitable));
  }

 private:
  CallScope* scope_ = nullptr;
  CallScope* outer_scope_ = nullptr;
  std::coroutine_handle<> waiting_;
};

// The frame of a Task<T>, with its result.
template <typename T>
class TaskPromise : public TaskFrame {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& result) {
    result_.emplace(std::forward<U>(result));
  }
  T TakeResult() { return *std::move(result_); }

 private:
  std::optional<T> result_;
};

template <>
class TaskPromise<void> : public TaskFrame {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void TakeResult() {}
};

// A Task is a coroutine that has not been started: work with a result of type T. It is started, once, by
// whoever waits for it:
//
//   ferry::Task<absl::Status> Refresh(CatalogStub& catalog, Cache& cache) {
//     absl::StatusOr<Prices> prices = co_await catalog.CoGetPrices(PricesRequest());
//     if (!prices.ok()) co_return prices.status();
//     co_return co_await Store(*std::move(prices), cache);       // another Task
//   }
//
// A coroutine handler is a Task (a service's CoX functions); Spawn and BlockOn start others (spawn.h).
//
// A Task is waited for by the coroutine that owns it, so it ends before that does, and runs in its CallScope:
// calls that it makes end with that scope's time, and are cancelled with it. It runs on the thread that
// starts it, and after each wait on the one that brings what it waited for: for calls, streams and timers an
// event loop's, where it must neither block nor take long (SwitchTo in waiting.h goes elsewhere).
//
// Movable. Thread-compatible. One that was not started is destroyed without running; one that has been must
// not be destroyed before it has ended, which who co_awaits it cannot do. What its parameters refer to must
// live as long as it. An exception that leaves it ends the program. GCC before 13 destroys temporaries twice
// in `condition ? co_await a : co_await b`: write an if.
template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = TaskPromise<T>;

  // No task.
  Task() = default;
  explicit Task(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
  Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(coroutine_, other.coroutine_);
    return *this;
  }
  ~Task() {
    if (coroutine_ != nullptr) coroutine_.destroy();
  }

  explicit operator bool() const { return coroutine_ != nullptr; }

  // Starts the task and waits for it; in `scope`, unless the coroutine that waits is itself a Task, whose
  // scope it has then. REQUIRES: the task was not started.
  class Awaiter {
   public:
    Awaiter(std::coroutine_handle<promise_type> coroutine, CallScope* scope)
        : coroutine_(coroutine), scope_(scope) {}

    bool await_ready() const { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> waiting) {
      if constexpr (std::derived_from<Promise, TaskFrame>) {
        if (scope_ == nullptr) scope_ = waiting.promise().scope();
      }
      FERRY_CHECK(scope_ != nullptr, "a coroutine that is no Task awaits one without In");
      coroutine_.promise().Prepare(scope_, waiting);
      return coroutine_;
    }
    T await_resume() { return coroutine_.promise().TakeResult(); }

   private:
    const std::coroutine_handle<promise_type> coroutine_;
    CallScope* scope_;
  };
  Awaiter operator co_await() const { return Awaiter(coroutine_, nullptr); }

  // For `co_await task.In(scope)`: the same, in a scope of its own, which must outlive it.
  Awaiter In(CallScope& scope) const { return Awaiter(coroutine_, &scope); }

 private:
  std::coroutine_handle<promise_type> coroutine_;
};

template <typename T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

// A task that has nothing to do but to return `result`.
template <typename T>
Task<T> TaskOf(T result) {
  co_return result;
}

// A RootCoroutine is a coroutine that nobody waits for: it starts at once, and its frame goes when it ends.
struct RootCoroutine {
  struct promise_type {
    RootCoroutine get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace ferry

#endif  // FERRY_RPC_TASK_H_
