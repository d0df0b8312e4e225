// Counters cheap enough for every malloc and every system call of a program under load.
#ifndef FERRY_BENCHMARKS_EVENT_COUNTER_H_
#define FERRY_BENCHMARKS_EVENT_COUNTER_H_

#include <cstdint>

namespace ferry::bench {

// An EventCounter counts events of the whole process, each thread in a cache line of its own.
//
// Thread-safe, and usable before main, inside malloc and while a thread ends: it allocates and constructs
// nothing.
class EventCounter {
 public:
  enum Event { kHeapAllocations, kSyscalls };

  static void Count(Event event);

  // Over all threads, those that have ended too. Exact once they stand still.
  static int64_t Total(Event event);
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_EVENT_COUNTER_H_
