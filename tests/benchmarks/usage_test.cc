#include "ferry/benchmarks/usage.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "ferry/benchmarks/event_counter.h"

namespace ferry::bench {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FERRY_COUNTS_NOTHING
#endif
#endif

// `value`, of which the compiler knows no more than that it may be looked at: it cannot leave the allocation
// out.
template <typename T>
T* Seen(T* value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

TEST(UsageTest, GrowsByTheProcessorTimeOfEveryThread) {
  const Usage before = Usage::SoFar();
  std::thread([] {
    const Usage start = Usage::SoFar();
    while ((Usage::SoFar() - start).cpu_nanos < 5'000'000) continue;
  }).join();
  EXPECT_GE((Usage::SoFar() - before).cpu_nanos, 5'000'000);
}

#if !defined(FERRY_COUNTS_NOTHING)

TEST(UsageTest, CountsEveryWayToAllocate) {
  const Usage before = Usage::SoFar();
  free(Seen(realloc(Seen(malloc(10)), 20)));
  free(Seen(calloc(2, 5)));
  free(Seen(aligned_alloc(64, 64)));
  void* memory;
  ASSERT_EQ(posix_memalign(&memory, 64, 10), 0);
  free(Seen(memory));
  delete Seen(new int);
  struct alignas(128) Wide {};
  delete Seen(new Wide);
  const Usage used = Usage::SoFar() - before;
  EXPECT_EQ(used.heap_allocations, 7);
  EXPECT_EQ(used.syscalls, 0);
}

TEST(UsageTest, CountsSystemCallsButNotThoseThatNeedNoKernel) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  char c = 'x';
  iovec part = {&c, 1};
  const Usage before = Usage::SoFar();
  EXPECT_EQ(write(ends[1], &c, 1), 1);
  EXPECT_EQ(readv(ends[0], &part, 1), 1);
  EXPECT_EQ(syscall(SYS_write, ends[1], &c, size_t{1}), 1);
  EXPECT_EQ(read(ends[0], &c, 1), 1);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const Usage used = Usage::SoFar() - before;
  EXPECT_EQ(used.syscalls, 4);
  EXPECT_EQ(used.heap_allocations, 0);
  close(ends[0]);
  close(ends[1]);
}

#endif

TEST(EventCounterTest, AddsUpThreadsThatHaveEnded) {
  const int64_t before = EventCounter::Total(EventCounter::kSyscalls);
  for (int i = 0; i < 300; ++i) std::thread([] { EventCounter::Count(EventCounter::kSyscalls); }).join();
  EXPECT_GE(EventCounter::Total(EventCounter::kSyscalls) - before, 300);
}

}  // namespace
}  // namespace ferry::bench
