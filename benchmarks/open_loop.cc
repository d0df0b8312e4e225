#include "ferry/benchmarks/open_loop.h"

#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/now.h"

namespace ferry::bench {
namespace {

class RealTime final : public Timekeeper {
 public:
  int64_t NowNanos() const override { return bench::NowNanos(); }
  void SleepUntil(int64_t nanos) override {
    // Otherwise the kernel adds 50 us to every sleep.
    prctl(PR_SET_TIMERSLACK, 1);
    const timespec time{.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) != 0) continue;
  }
};

// A Ledger knows which calls are in flight and how those that ended fared. Thread-safe.
class Ledger {
 public:
  Ledger(int64_t max_in_flight, const Timekeeper& time) : max_in_flight_(max_in_flight), time_(time) {}

  // One more call is about to begin; waits until it may. Returns the first error so far.
  absl::Status Begin() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Ledger::HasRoom));
    ++in_flight_;
    return status_;
  }

  // A call that should have begun at `due` has ended. It counts if `measured`.
  void End(const absl::Status& status, int64_t due, bool measured) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int64_t now = time_.NowNanos();
    absl::MutexLock lock(&mutex_);
    --in_flight_;
    status_.Update(status);
    if (!measured) return;
    last_end_ = std::max(last_end_, now);
    latency_.Record(now - due);
  }

  // Waits for the calls in flight. Fills in what became of all that began from `start` on.
  absl::Status Close(int64_t start, OpenLoopMeasurement& measured) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(this, &Ledger::IsEmpty), absl::Seconds(20))) {
      return absl::DeadlineExceededError("calls do not end");
    }
    if (status_.ok() && latency_.count() > 0) {
      measured.ended_per_second =
          static_cast<double>(latency_.count()) * 1e9 / static_cast<double>(last_end_ - start);
      measured.latency = latency_;
    }
    return status_;
  }

 private:
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_flight_ < max_in_flight_; }
  bool IsEmpty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_flight_ == 0; }

  const int64_t max_in_flight_;
  const Timekeeper& time_;
  absl::Mutex mutex_;
  int64_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_end_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  Histogram latency_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

Timekeeper& Timekeeper::Real() {
  static RealTime real;
  return real;
}

absl::StatusOr<OpenLoopMeasurement> RunOpenLoop(Caller& caller, const OpenLoopOptions& options,
                                                Timekeeper& time) {
  EchoRequest request;
  request.set_payload(std::string(options.payload, 'x'));
  OpenLoopMeasurement measured;
  measured.offered_per_second = options.rate;
  Ledger ledger(options.max_in_flight, time);
  const double period = 1e9 / options.rate;
  const int64_t begin = time.NowNanos();
  const int64_t start = begin + absl::ToInt64Nanoseconds(options.warm_up);
  const int64_t stop = start + absl::ToInt64Nanoseconds(options.duration);
  absl::Status status;
  for (int64_t i = 0; status.ok(); ++i) {
    const int64_t due = begin + static_cast<int64_t>(static_cast<double>(i) * period);
    if (due >= stop) break;
    if (time.NowNanos() < due) time.SleepUntil(due);
    const bool counts = due >= start;
    status = ledger.Begin();
    if (counts) measured.late.Record(time.NowNanos() - due);
    // The sign says whether it counts: a function object of 16 bytes needs no allocation.
    caller.Start(request, [&ledger, signed_due = counts ? due : -due](const absl::Status& ended) {
      ledger.End(ended, std::abs(signed_due), signed_due > 0);
    });
  }
  status = ledger.Close(start, measured);
  if (!status.ok()) return status;
  if (measured.latency.count() == 0) return absl::DeadlineExceededError("no call ended in time");
  return measured;
}

}  // namespace ferry::bench
