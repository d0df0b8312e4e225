#include "ferry/benchmarks/usage.h"

#include <sys/resource.h>

#include "ferry/benchmarks/event_counter.h"

namespace ferry::bench {
namespace {

int64_t Nanos(const timeval& time) {
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_usec * int64_t{1'000};
}

}  // namespace

Usage Usage::SoFar() {
  rusage self;
  getrusage(RUSAGE_SELF, &self);
  return {
      .cpu_nanos = Nanos(self.ru_utime) + Nanos(self.ru_stime),
      .heap_allocations = EventCounter::Total(EventCounter::kHeapAllocations),
      .syscalls = EventCounter::TotalSyscalls(),
      .waits = EventCounter::Total(EventCounter::kWaits),
      .reads = EventCounter::Total(EventCounter::kReads),
      .writes = EventCounter::Total(EventCounter::kWrites),
      .wake_ups = EventCounter::Total(EventCounter::kWakeUps),
      .empty_polls = EventCounter::Total(EventCounter::kEmptyPolls),
      .bytes_written = EventCounter::Total(EventCounter::kBytesWritten),
  };
}

Usage operator-(const Usage& later, const Usage& earlier) {
  return {
      .cpu_nanos = later.cpu_nanos - earlier.cpu_nanos,
      .heap_allocations = later.heap_allocations - earlier.heap_allocations,
      .syscalls = later.syscalls - earlier.syscalls,
      .waits = later.waits - earlier.waits,
      .reads = later.reads - earlier.reads,
      .writes = later.writes - earlier.writes,
      .wake_ups = later.wake_ups - earlier.wake_ups,
      .empty_polls = later.empty_polls - earlier.empty_polls,
      .bytes_written = later.bytes_written - earlier.bytes_written,
  };
}

}  // namespace ferry::bench
