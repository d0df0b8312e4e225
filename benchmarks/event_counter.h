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
  enum Event {
    kHeapAllocations,
    // System calls by what they are for.
    kWaits,          // for descriptors, if they slept or found something
    kEmptyPolls,     // asked without waiting and found nothing: waits of no time, reads, sched_yield
    kReads,          // of sockets and files
    kWrites,         // of sockets and files
    kWakeUps,        // of other threads and by them: eventfds and futexes
    kOtherSyscalls,  // the rest
    // What kWrites put into sockets and files.
    kBytesWritten,
  };
  static constexpr int kEvents = kBytesWritten + 1;

  static void Count(Event event, int64_t amount = 1);

  // Over all threads, those that have ended too. Exact once they stand still.
  static int64_t Total(Event event);

  // All system calls but kEmptyPolls, whose number is only a matter of how long somebody looked.
  static int64_t TotalSyscalls();
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_EVENT_COUNTER_H_
