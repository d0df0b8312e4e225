// What a process has used up so far.
#ifndef FERRY_BENCHMARKS_USAGE_H_
#define FERRY_BENCHMARKS_USAGE_H_

#include <cstdint>

namespace ferry::bench {

// A Usage is what a process has used since it began, or between two moments: a value.
struct Usage {
  // Running time of all threads, in the program and in the kernel (getrusage).
  int64_t cpu_nanos = 0;
  // Calls of malloc and its kin, from operator new too. Always 0 under sanitizers, and unless
  // //benchmarks:count_allocations is linked in.
  int64_t heap_allocations = 0;
  // Calls of the C library's functions that enter the kernel. Always 0 under sanitizers, and unless
  // //benchmarks:count_syscalls is linked in.
  int64_t syscalls = 0;

  // Of the calling process. Thread-safe.
  static Usage SoFar();

  friend Usage operator-(const Usage& later, const Usage& earlier) {
    return {later.cpu_nanos - earlier.cpu_nanos, later.heap_allocations - earlier.heap_allocations,
            later.syscalls - earlier.syscalls};
  }
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_USAGE_H_
