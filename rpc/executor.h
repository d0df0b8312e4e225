// Where handlers run that may take long or wait.
#ifndef FERRY_RPC_EXECUTOR_H_
#define FERRY_RPC_EXECUTOR_H_

#include <cstddef>

#include "absl/types/span.h"

namespace ferry {

// An Executor runs tasks on threads of its own, beginning them in the order they were submitted.
//
// Thread-safe.
class Executor {
 public:
  // A Task is one piece of work. It is not owned, and must live until it has been run.
  class Task {
   public:
    virtual ~Task() = default;
    // Does the work. The executor does not touch the task afterwards, so Run may destroy it.
    virtual void Run() = 0;
  };

  virtual ~Executor() = default;

  // Whether the calling thread is about to run another task: then what this one has to send may be left for
  // somebody else to send together with the next. Executors that do not say so are taken to have none.
  static bool MoreWaiting() { return more_waiting_; }

  // Takes as many of `tasks` as there is room for, from the first on; returns how many. Each is run once.
  virtual size_t Submit(absl::Span<Task* const> tasks) = 0;

  // How many tasks may wait.
  virtual size_t capacity() const = 0;

 protected:
  // Says what MoreWaiting answers on this thread.
  static void SetMoreWaiting(bool more) { more_waiting_ = more; }

 private:
  inline static thread_local constinit bool more_waiting_ = false;
};

}  // namespace ferry

#endif  // FERRY_RPC_EXECUTOR_H_
