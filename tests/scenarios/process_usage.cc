#include "tests/scenarios/process_usage.h"

#include <malloc.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace ferry::scenarios {
namespace {

// The number after `name` in /proc/self/status.
int64_t NumberOf(std::string_view name) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t number = 0;
  while (status >> word) {
    if (word == name) status >> number;
  }
  return number;
}

}  // namespace

int64_t ThreadsOfProcess() { return NumberOf("Threads:"); }

int64_t DescriptorsOfProcess() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  // Less the one that reads them.
  return std::distance(begin(open), end(open)) - 1;
}

int64_t ResidentMemory() { return NumberOf("VmRSS:"); }

int64_t AllocatedMemory() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>((info.uordblks + info.hblkhd) / 1024);
}

}  // namespace ferry::scenarios
