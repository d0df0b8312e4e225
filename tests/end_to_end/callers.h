// Load that goes on while a test does something else.
#ifndef FERRY_TESTS_END_TO_END_CALLERS_H_
#define FERRY_TESTS_END_TO_END_CALLERS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace ferry::test::e2e {

// Callers are threads that make calls, each one after the other, until they are stopped.
//
// Thread-compatible. Destroying them stops them.
class Callers {
 public:
  // `call` makes one, on any of the threads; their own calls are numbered from 1.
  Callers(int threads, std::function<absl::Status(uint64_t number)> call);
  ~Callers();
  Callers(const Callers&) = delete;
  Callers& operator=(const Callers&) = delete;

  // OK if every call was; otherwise how the first that was not has ended.
  absl::Status Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<absl::Status(uint64_t)> call_;
  std::atomic<bool> stop_{false};
  absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_CALLERS_H_
