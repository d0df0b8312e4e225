// What a client knows of the load of one server.
#ifndef FERRY_RPC_BALANCING_SERVER_LOAD_H_
#define FERRY_RPC_BALANCING_SERVER_LOAD_H_

#include <atomic>
#include <cstdint>

#include "absl/base/optimization.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"

namespace ferry {

// A ServerLoad counts the calls that one client has on one server, and estimates how long they take.
//
// The estimate is an exponentially weighted moving average over time that rises faster than it falls. A call
// that took x and ends dt after the one before it makes of the estimate e
//
//     e + (x - e) / 2                     if x > e: half way, so that a few calls show that a server is slow
//     e + (x - e) * (1 - exp(-dt / T))    otherwise, T being decay_time
//
// A call that failed counts as one that took twice the estimate, or as long as it did if that is longer, up
// to 10 s: a server that fails fast must not look like a quick one.
//
// While no call is in flight the estimate halves every T * ln 2: a server that is not chosen, since it was
// slow, is tried again after a while. It gets one call then: with a call in flight the estimate counts in
// full.
//
// Thread-safe, without locks: its atomics are counts and times that order nothing else, all relaxed; but
// OnStart and in_flight have their places in the one order of all, for who takes a server out of use. Two
// calls that end at the same moment may leave only one's mark on the estimate. Each ServerLoad has a cache
// line of its own. Shared by the pickers that choose the server, and by the calls on it.
class ABSL_CACHELINE_ALIGNED ServerLoad {
 public:
  // Long enough that a slow server is asked only a few times a minute, short enough that one that is quick
  // again carries its share within some ten seconds.
  static constexpr absl::Duration kDecayTime = absl::Seconds(5);

  explicit ServerLoad(absl::Duration decay_time = kDecayTime)
      : decay_nanos_(static_cast<double>(absl::ToInt64Nanoseconds(decay_time))) {}

  // A call, or an attempt of one, is sent to the server.
  void OnStart() { in_flight_.fetch_add(1, std::memory_order_seq_cst); }

  // It has ended at `now`. `ok` says that the server did its part: a call that ends with an error which the
  // application chose (NOT_FOUND) is ok; UNAVAILABLE, a lost connection or a deadline is not.
  // Returns how many have failed in a row with this one: each number to one caller only.
  uint32_t OnEnd(transport::Instant now, transport::Instant started, bool ok);

  // It has ended in a way that says nothing of the server: its caller gave up on it, it lost a hedged race,
  // or it was never sent.
  void OnAbandoned() { in_flight_.fetch_sub(1, std::memory_order_relaxed); }

  // The server may be another now (it was restarted): forgets the estimate and the failures in a row.
  void Forget();

  uint32_t in_flight() const { return in_flight_.load(std::memory_order_seq_cst); }

  // How long a call takes, in nanoseconds, as estimated at `now`; 0 if no call has ended yet.
  double LatencyNanos(transport::Instant now) const;

  // How many calls have ended so, ever, and how long those that were ok took, all together.
  uint64_t successes() const { return successes_.load(std::memory_order_relaxed); }
  uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }
  absl::Duration time_of_successes() const {
    return absl::Nanoseconds(success_nanos_.load(std::memory_order_relaxed));
  }
  // How many calls have failed since the last that was ok.
  uint32_t failures_in_a_row() const { return failures_in_a_row_.load(std::memory_order_relaxed); }

 private:
  const double decay_nanos_;
  std::atomic<uint32_t> in_flight_{0};
  std::atomic<uint32_t> failures_in_a_row_{0};
  // 0: not known.
  std::atomic<double> latency_nanos_{0};
  // When latency_nanos_ was last changed.
  std::atomic<int64_t> sampled_at_{0};
  std::atomic<uint64_t> successes_{0};
  std::atomic<uint64_t> failures_{0};
  std::atomic<int64_t> success_nanos_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_SERVER_LOAD_H_
