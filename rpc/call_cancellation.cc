#include "ferry/rpc/call_cancellation.h"

#include <utility>

namespace ferry {

void CallCancellation::Watch(std::stop_token own, std::stop_token scope) {
  if (own.stop_possible()) own_.emplace(std::move(own), OnStop{this, false});
  if (scope.stop_possible()) scope_.emplace(std::move(scope), OnStop{this, true});
}

void CallCancellation::Started() {
  started_.store(true);
  if (requested_.load()) Request();
}

void CallCancellation::Request() {
  loop_.Post([self = shared_from_this()] { self->Cancel(); });
}

void CallCancellation::End() {
  loop_.AssertInLoop();
  call_ = nullptr;
  own_.reset();
  scope_.reset();
}

void CallCancellation::Cancel() {
  loop_.AssertInLoop();
  requested_.store(true);
  // Before its start the call is nowhere to be found; Started comes again.
  if (call_ == nullptr || !started_.load()) return;
  canceller_.CancelCall(*call_, absl::CancelledError(inherited_.load(std::memory_order_relaxed)
                                                         ? "the work that the call was made for was cancelled"
                                                         : "the caller cancelled the call"));
}

}  // namespace ferry
