// Calls at a fixed rate, and what became of them.
#ifndef FERRY_TESTS_SCENARIOS_LOAD_H_
#define FERRY_TESTS_SCENARIOS_LOAD_H_

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/scenarios.ferry.h"

namespace ferry::scenarios {

struct LoadOptions {
  enum class Method { kAsk, kChange };

  Method method = Method::kAsk;
  int calls_per_second = 2000;
  // Whether the results of calls that went well are kept, too: memory that grows.
  bool keep_all = true;
  // What times are counted from, and the first call is due: the same for loads that are looked at together.
  absl::Time beginning = absl::Now();
};

// A Load makes calls of one method at a fixed rate, whether those before have ended or not.
//
// Thread-safe.
class Load {
 public:
  Load(Channel& channel, const LoadOptions& options);
  // Waits for the calls that have not ended.
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  // Makes no more calls, and waits for those that have not ended.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Since the beginning.
  absl::Duration Now() const;

  // The calls that have ended, in that order, since `from`; how many have at all, and how many of these have
  // failed, and the error of the first of those.
  std::vector<Result> results(absl::Duration from = absl::ZeroDuration()) const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t failed() const { return failed_.load(); }
  size_t ended() const { return ended_.load(); }
  absl::Status first_error() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  void StartCall(absl::Duration due);
  void OnEnd(Result result) ABSL_LOCKS_EXCLUDED(mutex_);

  ProbeStub stub_;
  const LoadOptions options_;
  const absl::Duration interval_;
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> started_{0};
  std::atomic<size_t> ended_{0};
  std::atomic<size_t> failed_{0};
  mutable absl::Mutex mutex_;
  std::vector<Result> results_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_LOAD_H_
