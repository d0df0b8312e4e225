#include "ferry/rpc/task_scope.h"

#include <algorithm>

namespace ferry {

TaskScope::TaskScope(transport::EventLoop& loop, const Options& options, Executor* executor)
    : TaskScope(nullptr, loop, options, executor) {}

TaskScope::TaskScope(CallScope& parent, const Options& options)
    : TaskScope(&parent, parent.loop(), options, parent.executor()) {}

TaskScope::TaskScope(CallScope* parent, transport::EventLoop& loop, const Options& options,
                     Executor* executor)
    : parent_(parent),
      loop_(loop),
      executor_(executor),
      deadline_(loop.clock().Now() + options.timeout),
      own_stop_(options.stop_token, Stop{&stop_source_}) {
  if (parent != nullptr) parent_stop_.emplace(parent->stop_token(), Stop{&stop_source_});
}

absl::Duration TaskScope::time_left() const {
  const absl::Duration left = std::max(deadline_ - loop_.clock().Now(), absl::ZeroDuration());
  return parent_ == nullptr ? left : std::min(left, parent_->time_left());
}

}  // namespace ferry
