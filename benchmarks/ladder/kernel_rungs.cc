#include <sys/syscall.h>
#include <unistd.h>

#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/benchmarks/now.h"

namespace ferry::bench {

Rungs KernelRungs(const LadderOptions& options) {
  constexpr int kBatch = 1000;
  return {
      Measure(
          "system call", "getppid", options, [] { syscall(SYS_getppid); }, kBatch),
      Measure(
          "clock", "clock_gettime(CLOCK_MONOTONIC), without the kernel where the machine can", options,
          [] { NowNanos(); }, kBatch),
  };
}

}  // namespace ferry::bench
