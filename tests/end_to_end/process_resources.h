// What the process holds of the system's: for tests that nothing is left behind.
#ifndef FERRY_TESTS_END_TO_END_PROCESS_RESOURCES_H_
#define FERRY_TESTS_END_TO_END_PROCESS_RESOURCES_H_

#include <cstddef>
#include <filesystem>
#include <iterator>

namespace ferry::test::e2e {

inline size_t CountEntries(const char* directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

// Open descriptors, and one that counting takes.
inline size_t OpenDescriptors() { return CountEntries("/proc/self/fd"); }

inline size_t RunningThreads() { return CountEntries("/proc/self/task"); }

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_PROCESS_RESOURCES_H_
