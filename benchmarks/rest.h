// Whether a process sleeps once there is nothing to do.
#ifndef FERRY_BENCHMARKS_REST_H_
#define FERRY_BENCHMARKS_REST_H_

#include <cstdint>

namespace ferry::bench {

// A Rest is what a process did with a second in which nobody asked anything of it: a value.
struct Rest {
  // Until none of its threads ran any more, from the moment that the work ended; a second if they never
  // stopped. To 0.2 ms or so.
  int64_t asleep_after_nanos = 0;
  // Running time of its threads from 1 ms after that moment to the end of the second.
  int64_t cpu_nanos = 0;
};

// Watches the threads of this process, the calling one apart, until a second after `since` (in NowNanos),
// when the work ended.
Rest WatchRest(int64_t since);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_REST_H_
