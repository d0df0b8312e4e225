#include "tests/conformance/handlers.h"

#include <memory>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "tests/conformance/blocking_handlers.h"
#include "tests/conformance/callback_handlers.h"
#include "tests/conformance/coroutine_handlers.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {

void HandlerLog::OnBegin(bool run_inline) {
  absl::MutexLock lock(&mutex_);
  ++counts_.begun;
  if (run_inline) ++counts_.begun_inline;
}

void HandlerLog::OnFragments() {
  absl::MutexLock lock(&mutex_);
  ++counts_.in_fragments;
}

void HandlerLog::OnSleep() {
  absl::MutexLock lock(&mutex_);
  ++counts_.slept;
}

void HandlerLog::OnEnd(bool cancelled) {
  absl::MutexLock lock(&mutex_);
  ++counts_.ended;
  if (cancelled) ++counts_.cancelled;
}

HandlerLog::Counts HandlerLog::counts() {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

bool HandlerLog::WaitForBegun(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return counts_.begun >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), e2e::kLongTime);
}

bool HandlerLog::WaitForSlept(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return counts_.slept >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), e2e::kLongTime);
}

bool HandlerLog::WaitUntilIdle() {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return counts_.ended == counts_.begun; };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), e2e::kLongTime);
}

std::unique_ptr<Service> NewConformanceService(Execution execution, Form form, HandlerLog& log) {
  if (form == Form::kCoroutine) return std::make_unique<CoroutineHandlers>(log);
  if (form == Form::kCallback) return std::make_unique<CallbackHandlers>(log);
  if (execution == Execution::kInline) return std::make_unique<InlineHandlers>(log);
  return std::make_unique<BlockingHandlers>(log);
}

}  // namespace ferry::test::conformance
