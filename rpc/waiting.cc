#include "ferry/rpc/waiting.h"

#include <algorithm>
#include <stop_token>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/fork_guard.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// What a Sleep leaves with the loop, which may still have a task with it when the coroutine has run on. After
// Begin it belongs to the loop.
class Sleep::Waiter : public std::enable_shared_from_this<Sleep::Waiter> {
 public:
  Waiter(CallScope& scope, absl::Duration duration)
      : loop_(scope.loop()),
        stop_token_(scope.stop_token()),
        out_of_time_(scope.time_left() < duration),
        due_(loop_.clock().Now() + std::min(duration, scope.time_left())),
        timer_([this] { OnTimer(); }) {}

  bool Begin(std::coroutine_handle<> coroutine) {
    loop_.Post([self = shared_from_this()] { self->Arm(); });
    return resumption_.Suspend(coroutine);
  }

  const absl::Status& status() const { return status_; }

 private:
  struct OnStop {
    Waiter* waiter;
    void operator()() const {
      waiter->loop_.Post([self = waiter->shared_from_this()] {
        self->End(absl::CancelledError("the work that slept was cancelled"));
      });
    }
  };

  void Arm() {
    on_stop_.emplace(std::move(stop_token_), OnStop{this});
    if (due_ != transport::Instant::Infinite()) loop_.timers().Arm(timer_, due_);
  }

  void OnTimer() {
    End(out_of_time_ ? absl::DeadlineExceededError("the deadline came before the end of the sleep")
                     : absl::OkStatus());
  }

  void End(absl::Status status) {
    if (ended_) return;
    ended_ = true;
    loop_.timers().Cancel(timer_);
    // Waits for a callback that is just posting.
    on_stop_.reset();
    status_ = std::move(status);
    // A thread that only waits for a call of its own must not run an application's coroutine.
    if (loop_.run_by_guest()) {
      return loop_.PostToOwner([self = shared_from_this()] { self->resumption_.Resume(); });
    }
    // The coroutine may let go of this.
    const std::shared_ptr<Waiter> self = shared_from_this();
    resumption_.Resume();
  }

  transport::EventLoop& loop_;
  std::stop_token stop_token_;
  const bool out_of_time_;
  const transport::Instant due_;
  transport::Timer timer_;
  std::optional<std::stop_callback<OnStop>> on_stop_;
  absl::Status status_;
  bool ended_ = false;
  Resumption resumption_;
};

bool Sleep::Begin(CallScope& scope, std::coroutine_handle<> coroutine) {
  if (scope.loop().fork_guard().forked()) {
    refused_ = scope.loop().fork_guard().Error("event loop");
    return false;
  }
  // The coroutine may run on elsewhere, and this be gone, before Begin returns.
  const std::shared_ptr<Waiter> waiter = std::make_shared<Waiter>(scope, duration_);
  waiter_ = waiter;
  return waiter->Begin(coroutine);
}

absl::Status Sleep::await_resume() { return waiter_ == nullptr ? refused_ : waiter_->status(); }

bool SwitchTo::await_suspend(std::coroutine_handle<> coroutine) {
  coroutine_ = coroutine;
  if (loop_ != nullptr && loop_->fork_guard().forked()) {
    refused_ = loop_->fork_guard().Error("event loop");
    return false;
  }
  if (loop_ != nullptr) {
    loop_->PostToOwner([coroutine] { coroutine.resume(); });
    return true;
  }
  Executor::Task* const task = this;
  // Once it is taken the coroutine may have run to its end.
  if (executor_->Submit(absl::MakeConstSpan(&task, 1)) == 1) return true;
  refused_ = absl::ResourceExhaustedError(absl::StrCat("the executor takes no more: ", executor_->capacity(),
                                                       " tasks may wait, or it has ended"));
  return false;
}

}  // namespace ferry
