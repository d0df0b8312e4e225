// When it pays to poll before blocking.
#ifndef FERRY_TRANSPORT_POLL_POLICY_H_
#define FERRY_TRANSPORT_POLL_POLICY_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace ferry::transport {

// A PollPolicy decides how long a thread that has run out of work polls for more before it blocks. Waking a
// sleeping processor takes tens of microseconds on virtual machines, many times what a small call costs, but
// polling takes a processor from others. So a thread polls while
//
//   - its batches of work take no longer than a wake-up, from the post to the work: longer ones make up for
//     it, and
//   - polling has lately found something: after each time in vain it blocks at once the next 1, 3, 7 .. 63
//     times, so that an idle thread polls next to never, and
//   - nobody else needs its processor: a thread that yields to one that computes gets the processor back when
//     that one's time slice is over, after milliseconds, but one that sleeps, soon after it is woken. After a
//     yield that took long it blocks at once for the next 10, 20 .. 80 ms.
//
// Thread-compatible. Reads no clock.
class PollPolicy {
 public:
  // The longest limit: more is taken for this, so that the end of a time can be computed.
  static constexpr absl::Duration kMaxLimit = absl::Hours(1);

  // `limit` bounds each time; zero or less: never polls.
  explicit PollPolicy(absl::Duration limit)
      : limit_nanos_(std::max<int64_t>(absl::ToInt64Nanoseconds(std::min(limit, kMaxLimit)), 0)) {}

  bool enabled() const { return limit_nanos_ > 0; }

  // The thread, which has just worked for `worked_nanos`, has nothing to do at the time `now`. For how many
  // nanoseconds it is to poll; 0: it is to block at once. If it polls, Found, Missed or a GoesOn that answers
  // false follows.
  int64_t Begin(int64_t now, int64_t worked_nanos) {
    worked_nanos_ += (worked_nanos - worked_nanos_) / 4;
    if (worked_nanos_ > kLongBatchNanos || now < crowded_until_) return 0;
    if (to_skip_ > 0) {
      --to_skip_;
      return 0;
    }
    return limit_nanos_;
  }

  // It has looked for something to do once and yielded, from the time `before` to `now`: whether it may go
  // on.
  bool GoesOn(int64_t before, int64_t now) {
    if (now - before < kLongYieldNanos) return true;
    const bool again = now < crowded_until_ + pause_nanos_;
    pause_nanos_ = again ? std::min(2 * pause_nanos_, kMaxPauseNanos) : kMinPauseNanos;
    crowded_until_ = now + pause_nanos_;
    return false;
  }

  // There was something to do within that time.
  void Found() { skip_ = 0; }
  // There was not.
  void Missed() {
    skip_ = std::min(2 * skip_ + 1, kMaxSkip);
    to_skip_ = skip_;
  }

 private:
  static constexpr int64_t kLongBatchNanos = 60'000;
  static constexpr int kMaxSkip = 63;
  static constexpr int64_t kLongYieldNanos = 200'000;
  static constexpr int64_t kMinPauseNanos = 10'000'000;
  static constexpr int64_t kMaxPauseNanos = 80'000'000;

  const int64_t limit_nanos_;
  // A moving average.
  int64_t worked_nanos_ = 0;
  // How many times to block at once after the next time in vain, and now.
  int skip_ = 0;
  int to_skip_ = 0;
  // Until when others are taken to need the processor, and for how long that was assumed the last time.
  int64_t crowded_until_ = 0;
  int64_t pause_nanos_ = 0;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_POLL_POLICY_H_
