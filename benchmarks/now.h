// The clock of the benchmarks.
#ifndef FERRY_BENCHMARKS_NOW_H_
#define FERRY_BENCHMARKS_NOW_H_

#include <time.h>

#include <cstdint>

namespace ferry::bench {

// Nanoseconds on the monotonic clock, which all processes share.
inline int64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_NOW_H_
