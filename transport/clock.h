// Monotonic time, supplied from outside so that tests decide what time it is.
#ifndef FERRY_TRANSPORT_CLOCK_H_
#define FERRY_TRANSPORT_CLOCK_H_

#include <atomic>
#include <compare>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"

namespace ferry::transport {

// An Instant is a point on the monotonic clock, in nanoseconds: a value.
struct Instant {
  int64_t nanos = 0;

  static constexpr Instant Infinite() { return {std::numeric_limits<int64_t>::max()}; }

  friend constexpr auto operator<=>(Instant, Instant) = default;

  // Saturates: Infinite() stays infinite, and adding an infinite duration gives it.
  friend Instant operator+(Instant t, absl::Duration d) {
    const int64_t n = absl::ToInt64Nanoseconds(d);
    if (t == Infinite() || n == std::numeric_limits<int64_t>::max()) return Infinite();
    int64_t sum;
    if (__builtin_add_overflow(t.nanos, n, &sum)) return Infinite();
    return {sum};
  }
  friend absl::Duration operator-(Instant a, Instant b) {
    if (a == Infinite()) return absl::InfiniteDuration();
    return absl::Nanoseconds(a.nanos) - absl::Nanoseconds(b.nanos);
  }
};

// A Clock says what time it is.
//
// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;

  // How often the calling thread has lost its processor against its will: time in which that happened says
  // nothing of what the thread did. 0 on clocks that stand still.
  virtual int64_t Interruptions() const { return 0; }

  // The machine's clock (CLOCK_MONOTONIC). Never destroyed.
  static const Clock& Real();
};

// A ManualClock stands still until it is told to move: the clock of tests.
//
// Thread-safe. An event loop that sleeps does not notice that its clock has moved: wake it.
class ManualClock final : public Clock {
 public:
  Instant Now() const override { return {nanos_.load(std::memory_order_acquire)}; }
  void Advance(absl::Duration d) { nanos_.fetch_add(absl::ToInt64Nanoseconds(d), std::memory_order_acq_rel); }

 private:
  std::atomic<int64_t> nanos_{1'000'000'000};
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_CLOCK_H_
