#include "ferry/benchmarks/rest.h"

#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "ferry/benchmarks/now.h"

namespace ferry::bench {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

void Sleep(int64_t nanos) {
  const timespec time{.tv_sec = 0, .tv_nsec = nanos};
  nanosleep(&time, nullptr);
}

// The clocks of what the other threads have run: pthread_getcpuclockid has this form, but wants a pthread_t,
// which the threads of a library do not give away.
std::vector<clockid_t> ClocksOfOtherThreads() {
  constexpr clockid_t kThreadClock = 6;
  std::vector<clockid_t> clocks;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    const pid_t thread = std::atoi(entry.path().filename().c_str());
    if (thread != gettid()) clocks.push_back((~thread << 3) | kThreadClock);
  }
  return clocks;
}

int64_t Sum(const std::vector<clockid_t>& clocks) {
  int64_t sum = 0;
  for (const clockid_t clock : clocks) {
    timespec time;
    if (clock_gettime(clock, &time) == 0) sum += time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
  }
  return sum;
}

}  // namespace

Rest WatchRest(int64_t since) {
  const std::vector<clockid_t> clocks = ClocksOfOtherThreads();
  int64_t last_seen = since;
  int64_t at_one_millisecond = -1;
  int64_t total = Sum(clocks);
  for (int64_t now = NowNanos(); now < since + 1000 * kMillisecond; now = NowNanos()) {
    Sleep(now < since + 20 * kMillisecond ? kMillisecond / 10 : 20 * kMillisecond);
    const int64_t later = Sum(clocks);
    if (later != total) last_seen = NowNanos();
    total = later;
    if (at_one_millisecond < 0 && NowNanos() >= since + kMillisecond) at_one_millisecond = total;
  }
  return {.asleep_after_nanos = last_seen - since, .cpu_nanos = total - at_one_millisecond};
}

}  // namespace ferry::bench
