#include "ferry/benchmarks/usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
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

TEST(UsageTest, TellsSystemCallsApart) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  const int wake_up = eventfd(0, EFD_NONBLOCK);
  const int epoll = epoll_create1(0);
  epoll_event event = {.events = EPOLLIN, .data = {.fd = ends[0]}};
  ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), 0);
  char bytes[8] = {1};
  const Usage before = Usage::SoFar();
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 0);  // empty poll
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 1), 0);  // wait
  EXPECT_EQ(read(ends[0], bytes, 8), -1);         // empty poll
  EXPECT_EQ(write(ends[1], bytes, 5), 5);
  EXPECT_EQ(epoll_wait(epoll, &event, 1, 0), 1);  // wait
  EXPECT_EQ(read(ends[0], bytes, 8), 5);
  EXPECT_EQ(write(wake_up, bytes, 8), 8);  // wake-up
  EXPECT_EQ(read(wake_up, bytes, 8), 8);   // wake-up
  sched_yield();                           // empty poll
  int nobody = 0;
  syscall(SYS_futex, &nobody, FUTEX_WAKE, 1, nullptr, nullptr, 0);  // wake-up
  const Usage used = Usage::SoFar() - before;
  EXPECT_EQ(used.waits, 2);
  EXPECT_EQ(used.reads, 1);
  EXPECT_EQ(used.writes, 1);
  EXPECT_EQ(used.bytes_written, 5);
  EXPECT_EQ(used.wake_ups, 3);
  EXPECT_EQ(used.empty_polls, 3);
  EXPECT_EQ(used.syscalls, 2 + 1 + 1 + 3);
  for (const int fd : {ends[0], ends[1], wake_up, epoll}) close(fd);
}

TEST(UsageTest, TakesNoOtherDescriptorForAnEventfdThatWasClosed) {
  const int wake_up = eventfd(0, 0);
  close(wake_up);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(ends[0], wake_up);
  char c = 'x';
  const Usage before = Usage::SoFar();
  EXPECT_EQ(write(ends[1], &c, 1), 1);
  EXPECT_EQ(read(ends[0], &c, 1), 1);
  EXPECT_EQ((Usage::SoFar() - before).reads, 1);
  close(ends[0]);
  close(ends[1]);
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
  const int64_t before = EventCounter::Total(EventCounter::kReads);
  for (int i = 0; i < 300; ++i) std::thread([] { EventCounter::Count(EventCounter::kReads); }).join();
  EXPECT_GE(EventCounter::Total(EventCounter::kReads) - before, 300);
}

}  // namespace
}  // namespace ferry::bench
