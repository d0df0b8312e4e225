#include "ferry/rpc/balancing/server_load.h"

#include <algorithm>
#include <cmath>

namespace ferry {
namespace {

constexpr double kFailureFactor = 2;
constexpr double kMostFailureNanos = 10e9;
// An estimate of 0 says that there is none.
constexpr double kLeastNanos = 1;

}  // namespace

uint32_t ServerLoad::OnEnd(transport::Instant now, transport::Instant started, bool ok) {
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  const int64_t took = std::max<int64_t>(now.nanos - started.nanos, 0);
  const double before = latency_nanos_.load(std::memory_order_relaxed);
  double sample = std::max(static_cast<double>(took), kLeastNanos);
  uint32_t in_a_row = 0;
  if (ok) {
    successes_.fetch_add(1, std::memory_order_relaxed);
    success_nanos_.fetch_add(took, std::memory_order_relaxed);
    // Other threads only read the line while all is well.
    if (failures_in_a_row_.load(std::memory_order_relaxed) != 0) {
      failures_in_a_row_.store(0, std::memory_order_relaxed);
    }
  } else {
    failures_.fetch_add(1, std::memory_order_relaxed);
    in_a_row = failures_in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1;
    sample = std::max(sample, std::min(kFailureFactor * before, kMostFailureNanos));
  }
  const int64_t sampled_at = sampled_at_.load(std::memory_order_relaxed);
  double after = sample;
  if (before > 0) {
    const double age = static_cast<double>(std::max<int64_t>(now.nanos - sampled_at, 0));
    const double gain = sample > before ? 0.5 : -std::expm1(-age / decay_nanos_);
    after = before + (sample - before) * gain;
  }
  latency_nanos_.store(after, std::memory_order_relaxed);
  // The times of two threads may be out of order.
  if (now.nanos > sampled_at) sampled_at_.store(now.nanos, std::memory_order_relaxed);
  return in_a_row;
}

void ServerLoad::Forget() {
  latency_nanos_.store(0, std::memory_order_relaxed);
  failures_in_a_row_.store(0, std::memory_order_relaxed);
}

double ServerLoad::LatencyNanos(transport::Instant now) const {
  const double latency = latency_nanos_.load(std::memory_order_relaxed);
  if (latency == 0 || in_flight() > 0) return latency;
  const double age =
      static_cast<double>(std::max<int64_t>(now.nanos - sampled_at_.load(std::memory_order_relaxed), 0));
  return std::max(latency * std::exp(-age / decay_nanos_), kLeastNanos);
}

}  // namespace ferry
