// Calls at a fixed rate, and what became of them.
#ifndef FERRY_TESTS_SCENARIOS_LOAD_H_
#define FERRY_TESTS_SCENARIOS_LOAD_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/channel.h"
#include "tests/scenarios/scenarios.ferry.h"

namespace ferry::scenarios {

// A Result is how one call went.
struct Result {
  // Since the load's beginning.
  absl::Duration began;
  absl::Duration took;
  // The server that answered; empty if the call failed.
  std::string server;
  absl::Status status;
};

// A Load makes calls of one method at a fixed rate, whether those before have ended or not.
//
// Thread-safe.
class Load {
 public:
  enum class Method { kAsk, kChange };

  Load(Channel& channel, Method method, int calls_per_second);
  // Waits for the calls that have not ended.
  ~Load();
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  // Makes no more calls, and waits for those that have not ended.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Since the beginning.
  absl::Duration Now() const;

  // The calls that have ended, in that order, and how many of them have failed.
  std::vector<Result> results() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t failed() const { return failed_.load(); }
  size_t ended() const { return ended_.load(); }

  // The share of the calls begun in [from, to) that `server` has answered.
  double ShareOf(std::string_view server, absl::Duration from, absl::Duration to) const;
  // The time that 99 % of those calls took at most.
  absl::Duration P99(absl::Duration from, absl::Duration to) const;

 private:
  void Run();
  void StartCall(absl::Duration began);

  ProbeStub stub_;
  const Method method_;
  const absl::Duration interval_;
  const absl::Time beginning_ = absl::Now();
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
