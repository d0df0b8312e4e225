// What calls inherit from the work that they are made for.
#ifndef FERRY_RPC_CALL_SCOPE_H_
#define FERRY_RPC_CALL_SCOPE_H_

#include <stop_token>
#include <utility>

#include "absl/time/time.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

class Executor;

class WorkCount;

// A CallScope is a piece of work that calls are made for: how much time it has, and whether it is still
// wanted. A handler's ServerContext is one; so is what a coroutine was spawned with (task_scope.h).
//
// While a scope is a thread's current one, calls that the thread starts end no later than the scope's time,
// and are cancelled with it, unless their options say `detached`. A handler's scope is current while the
// handler runs, until it finishes its call, and a coroutine's whenever it runs; work that goes on elsewhere
// names it in CallOptions. A handler that has given its call to another thread must make calls only as
// `detached` from then on, for its scope may be gone.
//
// Thread-safe while the work lasts.
class CallScope {
 public:
  // What is left; infinite without a limit, never negative.
  virtual absl::Duration time_left() const = 0;

  // Is stopped when nobody waits for the work any more; may be kept for longer than the scope.
  virtual std::stop_token stop_token() = 0;

  // A loop for the work's timers.
  virtual transport::EventLoop& loop() const = 0;

  // Where the work may do what takes long; null if there is no such place.
  virtual Executor* executor() const { return nullptr; }

  // Where the work is counted by somebody who waits for its end; null if nobody does.
  virtual const WorkCount* counted_in() const { return nullptr; }

  // That of the calling thread, or null.
  static CallScope* Current() { return current_; }

  // While a Use lives, its scope is the thread's current one.
  class Use {
   public:
    explicit Use(CallScope* scope) : previous_(std::exchange(current_, scope)) {}
    ~Use() { current_ = previous_; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    CallScope* const previous_;
  };

  // For coroutines, which leave a thread elsewhere than where they came to it.
  static CallScope* Exchange(CallScope* scope) { return std::exchange(current_, scope); }

 protected:
  ~CallScope() = default;

 private:
  inline static thread_local constinit CallScope* current_ = nullptr;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_SCOPE_H_
