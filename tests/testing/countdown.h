// Waiting until something has happened a number of times.
#ifndef FERRY_TESTS_TESTING_COUNTDOWN_H_
#define FERRY_TESTS_TESTING_COUNTDOWN_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace ferry::test {

// A Countdown is an absl::BlockingCounter of which TSan knows that all that happens before each decrement
// happens before the end of the wait: the packaged one is not instrumented.
//
// Thread-safe. May be destroyed once Wait has returned.
class Countdown {
 public:
  explicit Countdown(int count) : left_(count) {}

  void DecrementCount() {
    absl::MutexLock lock(&mutex_);
    --left_;
  }
  void Wait() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Countdown::IsDone));
  }

 private:
  bool IsDone() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return left_ == 0; }

  absl::Mutex mutex_;
  int left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_COUNTDOWN_H_
