// How coroutines are begun.
#ifndef FERRY_RPC_SPAWN_H_
#define FERRY_RPC_SPAWN_H_

#include <optional>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/task_scope.h"
#include "ferry/rpc/wait_point.h"
#include "ferry/rpc/waiting.h"
#include "ferry/rpc/work_count.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// Runs `task` on `loop`, in a scope with these options, and then `done` with its result, if it has one.
// Returns at once. The loop must outlive the task: have the options' token stop it, and wait for `done`,
// before that is destroyed. For a channel's own loop: Channel::loop. Thread-safe.
template <typename T, typename Done>
void Spawn(transport::EventLoop& loop, Task<T> task, Done done, const TaskScope::Options& options = {}) {
  // The parameters live in the coroutine's frame; `this` and captures would not.
  [](transport::EventLoop& where, Task<T> work, Done tell, TaskScope::Options limits) -> RootCoroutine {
    TaskScope scope(where, limits);
    // Fails only in a forked process, where whatever the task waits for fails at once.
    static_cast<void>(co_await SwitchTo(where));
    if constexpr (std::is_void_v<T>) {
      co_await work.In(scope);
      work = Task<T>();
      std::move(tell)();
    } else {
      T result = co_await work.In(scope);
      // Its frame goes before what it may refer to.
      work = Task<T>();
      std::move(tell)(std::move(result));
    }
  }(loop, std::move(task), std::move(done), options);
}

// Runs `task` as Spawn does, waits for its end, and returns its result. For main functions and tests.
// REQUIRES: not on a loop's thread.
template <typename T>
T BlockOn(transport::EventLoop& loop, Task<T> task, const TaskScope::Options& options = {}) {
  FERRY_CHECK(!transport::EventLoop::InAnyLoop(), "BlockOn was called on an event loop's thread");
  WaitPoint ended;
  auto notify = ended.waiter();
  if constexpr (std::is_void_v<T>) {
    Spawn(loop, std::move(task), std::move(notify), options);
    ended.Wait();
  } else {
    std::optional<T> result;
    Spawn(
        loop, std::move(task),
        [&result, notify = std::move(notify)](T value) mutable {
          result.emplace(std::move(value));
          notify();
        },
        options);
    ended.Wait();
    return *std::move(result);
  }
}

// For generated skeletons. Runs a handler's task, starting here and now, and finishes its call with what it
// returns. `task` refers to the call's messages.
template <typename Call>
void FinishWhenDone(Task<absl::Status> task, Call call) {
  [](Task<absl::Status> work, Call served) -> RootCoroutine {
    // Until the task's frame is gone too.
    const WorkCount::Piece counted(served.context().BeginCoroutine());
    absl::Status status = co_await work.In(served.context());
    work = Task<absl::Status>();
    served.context().EndCoroutine();
    std::move(served).Finish(std::move(status));
  }(std::move(task), std::move(call));
}

}  // namespace ferry

#endif  // FERRY_RPC_SPAWN_H_
