// What this process uses of the machine, as Linux tells (/proc/self).
#ifndef FERRY_TESTS_SCENARIOS_PROCESS_USAGE_H_
#define FERRY_TESTS_SCENARIOS_PROCESS_USAGE_H_

#include <cstdint>

namespace ferry::scenarios {

int64_t ThreadsOfProcess();
int64_t DescriptorsOfProcess();
// In KiB: what is in memory, and what malloc has given out.
int64_t ResidentMemory();
int64_t AllocatedMemory();

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_PROCESS_USAGE_H_
