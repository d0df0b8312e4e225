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
  return {Nanos(self.ru_utime) + Nanos(self.ru_stime), EventCounter::Total(EventCounter::kHeapAllocations),
          EventCounter::Total(EventCounter::kSyscalls)};
}

}  // namespace ferry::bench
