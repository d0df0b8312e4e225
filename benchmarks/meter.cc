#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

bool Meter::GoOn(int64_t start, int64_t now) {
  switch (phase_) {
    case Phase::kNew:
      phase_ = Phase::kWarmUp;
      until_ = now + absl::ToInt64Nanoseconds(options_.warm_up);
      [[fallthrough]];
    case Phase::kWarmUp:
      if (now >= until_) Begin();
      return true;
    case Phase::kMeasure:
      ++measurement_.calls;
      // Calls that waited while the first mark was taken say nothing.
      if (start >= first_.nanos) measurement_.latency.Record(now - start);
      if (now >= until_ || measurement_.calls >= options_.max_calls) End();
      return phase_ == Phase::kMeasure;
    case Phase::kOver:
      return false;
  }
  return false;
}

void Meter::Add(int64_t calls, const Histogram& latency) {
  measurement_.calls += calls;
  measurement_.latency.Add(latency);
}

void Meter::Begin() {
  phase_ = Phase::kMeasure;
  first_ = take_mark_();
  until_ = first_.nanos + absl::ToInt64Nanoseconds(options_.duration);
}

void Meter::End() {
  phase_ = Phase::kOver;
  const Mark last = take_mark_();
  measurement_.nanos = last.nanos - first_.nanos;
  measurement_.client = last.client - first_.client;
  measurement_.server = last.server - first_.server;
}

}  // namespace ferry::bench
