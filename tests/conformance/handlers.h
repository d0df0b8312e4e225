// The handlers of the conformance service, in each form.
#ifndef FERRY_TESTS_CONFORMANCE_HANDLERS_H_
#define FERRY_TESTS_CONFORMANCE_HANDLERS_H_

#include <cstddef>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/service.h"
#include "tests/conformance/mode.h"

namespace ferry::test::conformance {

// A HandlerLog is what the handlers of one server have done so far.
//
// Thread-safe.
class HandlerLog {
 public:
  // How many handlers have begun, on an event loop's thread and at all, and how many of them with a request
  // that came in fragments; are or were waiting to be cancelled; have ended; and have ended after their calls
  // were cancelled.
  struct Counts {
    size_t begun = 0;
    size_t begun_inline = 0;
    size_t in_fragments = 0;
    size_t slept = 0;
    size_t ended = 0;
    size_t cancelled = 0;
  };

  void OnBegin(bool run_inline) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnFragments() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnSleep() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEnd(bool cancelled) ABSL_LOCKS_EXCLUDED(mutex_);

  Counts counts() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until that many have begun; whether they have.
  bool WaitForBegun(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until that many have slept; whether they have.
  bool WaitForSlept(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until all that have begun have ended; whether they have.
  bool WaitUntilIdle() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
};

// A conformance service for a mode. `log` is not owned, must outlive it.
std::unique_ptr<Service> NewConformanceService(Execution execution, Form form, HandlerLog& log);

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_HANDLERS_H_
