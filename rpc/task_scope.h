// A scope for coroutines: their time, and the wish to stop them.
#ifndef FERRY_RPC_TASK_SCOPE_H_
#define FERRY_RPC_TASK_SCOPE_H_

#include <optional>
#include <stop_token>

#include "absl/time/time.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// A TaskScope is the CallScope of a piece of work that is more than one call, or of a part of it that is to
// have less time, or may be stopped by itself:
//
//   ferry::TaskScope scope(context, {.timeout = absl::Milliseconds(20)});     // no more than the context has
//   absl::StatusOr<Prices> prices = co_await Ask(stub).In(scope);
//
// Thread-safe. Must outlive the work; its parent must outlive it.
class TaskScope final : public CallScope {
 public:
  struct Options {
    absl::Duration timeout = absl::InfiniteDuration();
    // Stops the work too.
    std::stop_token stop_token = {};
  };

  // Work that begins here. `loop` is where its timers run; not owned, must outlive the work. `executor` is
  // where it may do what takes long, if there is one; not owned either.
  TaskScope(transport::EventLoop& loop, const Options& options, Executor* executor = nullptr);
  // A part of other work: it has no more time than that, and stops when that does.
  TaskScope(CallScope& parent, const Options& options);

  // Stops the work: what it waits for is cancelled. Does nothing the second time.
  void RequestStop() { Stop{&stop_source_}(); }

  absl::Duration time_left() const override;
  std::stop_token stop_token() override { return stop_source_.get_token(); }
  transport::EventLoop& loop() const override { return loop_; }
  Executor* executor() const override { return executor_; }

 private:
  // The work, and the scope with it, may end inside.
  struct Stop {
    std::stop_source* stop_source;
    void operator()() const { std::stop_source(*stop_source).request_stop(); }
  };

  TaskScope(CallScope* parent, transport::EventLoop& loop, const Options& options, Executor* executor);

  CallScope* const parent_;
  transport::EventLoop& loop_;
  Executor* const executor_;
  const transport::Instant deadline_;
  std::stop_source stop_source_;
  // After what they stop.
  std::stop_callback<Stop> own_stop_;
  std::optional<std::stop_callback<Stop>> parent_stop_;
};

}  // namespace ferry

#endif  // FERRY_RPC_TASK_SCOPE_H_
