// Calls that begin at fixed times, whether or not earlier ones have ended.
#ifndef FERRY_BENCHMARKS_OPEN_LOOP_H_
#define FERRY_BENCHMARKS_OPEN_LOOP_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/benchmarks/histogram.h"
#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

struct OpenLoopOptions {
  // Calls a second, evenly spread.
  double rate = 1000;
  absl::Duration warm_up = absl::Milliseconds(300);
  absl::Duration duration = absl::Seconds(1);
  size_t payload = 64;
  // The generator waits while so many calls have not ended; their latencies go on counting from the times at
  // which they should have begun.
  int64_t max_in_flight = 2000;
};

// An OpenLoopMeasurement is what became of the calls that should have begun after the warm-up: a value.
struct OpenLoopMeasurement {
  double offered_per_second = 0;
  // How many ended for each second until the last of them did.
  double ended_per_second = 0;
  // From the time at which a call should have begun, not from when it did: a stall counts against every call
  // that it delays.
  Histogram latency;
  // Of these, by how much calls began too late.
  Histogram late;
};

// A Timekeeper says what time it is, and waits until it is later.
//
// Thread-safe.
class Timekeeper {
 public:
  virtual ~Timekeeper() = default;
  virtual int64_t NowNanos() const = 0;
  // For one thread only.
  virtual void SleepUntil(int64_t nanos) = 0;

  // The machine's own (CLOCK_MONOTONIC). Never destroyed.
  static Timekeeper& Real();
};

// Calls through `caller` until the time is over, then waits for the last call. An error if any call failed.
absl::StatusOr<OpenLoopMeasurement> RunOpenLoop(Caller& caller, const OpenLoopOptions& options,
                                                Timekeeper& time = Timekeeper::Real());

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_OPEN_LOOP_H_
