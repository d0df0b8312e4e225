// Decides when a closed loop of calls is warm, when it has been measured, and what came out.
#ifndef FERRY_BENCHMARKS_METER_H_
#define FERRY_BENCHMARKS_METER_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "ferry/benchmarks/histogram.h"
#include "ferry/benchmarks/now.h"
#include "ferry/benchmarks/rest.h"
#include "ferry/benchmarks/usage.h"

namespace ferry::bench {

// A Mark is what both processes have used by one moment: a value.
struct Mark {
  int64_t nanos = 0;
  Usage client;
  Usage server;
};

// What calls took before others were beside them on the connection, in nanoseconds: a value.
struct Alone {
  int64_t p50_nanos = 0;
  int64_t p99_nanos = 0;
  // What a request of one fragment takes longer, both at their medians.
  int64_t fragment_nanos = 0;
};

// A Measurement is what the calls of one row took, between two marks.
struct Measurement {
  int64_t calls = 0;
  int64_t nanos = 0;
  Usage client;
  Usage server;
  // From a call's start to its end as the caller sees them, of the calls that lie between the marks.
  Histogram latency;
  // Of one call's request and reply as messages.
  int64_t message_bytes = 0;
  // Of the second after the last call, if that was watched.
  std::optional<Rest> client_rest;
  std::optional<Rest> server_rest;
  // If large messages were beside these calls.
  std::optional<Alone> alone = {};
};

// A Meter is told of every call that ends and says whether to begin another: calls warm up, are measured, and
// stop. It never reads a clock.
//
//   int64_t start = NowNanos();
//   do { Call(); } while (meter.GoOn(start, NowNanos()) ...);
//
// Thread-compatible: calls end on one thread at a time.
class Meter {
 public:
  struct Options {
    absl::Duration warm_up = absl::Milliseconds(500);
    absl::Duration duration = absl::Seconds(3);
    // Ends measuring earlier, after so many calls.
    int64_t max_calls = INT64_MAX;
  };

  // `take_mark` is called when measuring begins and when it ends, by the thread that calls GoOn.
  Meter(const Options& options, absl::AnyInvocable<Mark()> take_mark)
      : options_(options), take_mark_(std::move(take_mark)) {}

  // A call that began at `start` has ended at `now`, both in NowNanos. Returns whether to begin another; once
  // false, it stays false.
  bool GoOn(int64_t start, int64_t now);

  // Whether the last GoOn fell between the marks.
  bool measuring() const { return phase_ == Phase::kMeasure; }

  // Adds calls that others have made between the marks. REQUIRES: GoOn has returned false.
  void Add(int64_t calls, const Histogram& latency);

  // What the calls are to be compared with.
  void SetAlone(const Alone& alone) { measurement_.alone = alone; }

  // REQUIRES: GoOn has returned false.
  const Measurement& measurement() const { return measurement_; }

 private:
  enum class Phase { kNew, kWarmUp, kMeasure, kOver };

  void Begin();
  void End();

  const Options options_;
  absl::AnyInvocable<Mark()> take_mark_;
  Phase phase_ = Phase::kNew;
  // When this phase ends.
  int64_t until_ = 0;
  Mark first_;
  Measurement measurement_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_METER_H_
