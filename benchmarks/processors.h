// Which processors this process runs on.
#ifndef FERRY_BENCHMARKS_PROCESSORS_H_
#define FERRY_BENCHMARKS_PROCESSORS_H_

#include <sched.h>

namespace ferry::bench {

// While an OneProcessor lives, the thread that made it, and every thread that it or its like then start, run
// on the last of the processors that the process may use: the first serves more interrupts.
//
// Thread-compatible.
class OneProcessor {
 public:
  OneProcessor() {
    sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&one) == 0; --cpu) {
      if (CPU_ISSET(cpu, &before_)) CPU_SET(cpu, &one);
    }
    sched_setaffinity(0, sizeof(one), &one);
  }
  ~OneProcessor() { sched_setaffinity(0, sizeof(before_), &before_); }
  OneProcessor(const OneProcessor&) = delete;
  OneProcessor& operator=(const OneProcessor&) = delete;

 private:
  cpu_set_t before_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_PROCESSORS_H_
