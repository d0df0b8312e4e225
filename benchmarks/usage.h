// What a process has used up so far.
#ifndef FERRY_BENCHMARKS_USAGE_H_
#define FERRY_BENCHMARKS_USAGE_H_

#include <cstdint>

namespace ferry::bench {

// A Usage is what a process has used since it began, or between two moments: a value.
//
// What is counted is always 0 under sanitizers, and unless //benchmarks:count_allocations and
// //benchmarks:count_syscalls are linked in.
struct Usage {
  // Running time of all threads, in the program and in the kernel (getrusage).
  int64_t cpu_nanos = 0;
  // Calls of malloc and its kin, from operator new too.
  int64_t heap_allocations = 0;
  // Calls of the C library's functions that enter the kernel, but for empty_polls.
  int64_t syscalls = 0;
  // Of these, by kind. EventCounter says what each is.
  int64_t waits = 0;
  int64_t reads = 0;
  int64_t writes = 0;
  int64_t wake_ups = 0;
  // Those that asked without waiting and found nothing.
  int64_t empty_polls = 0;
  int64_t bytes_written = 0;

  // Of the calling process. Thread-safe.
  static Usage SoFar();
};

Usage operator-(const Usage& later, const Usage& earlier);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_USAGE_H_
