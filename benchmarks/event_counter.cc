#include "ferry/benchmarks/event_counter.h"

#include <atomic>
#include <cstddef>

namespace ferry::bench {
namespace {

struct alignas(64) Line {
  // Added to by the threads that drew this line, usually one; read by Total. Nothing else is published
  // through them.
  std::atomic<int64_t> events[EventCounter::kEvents];
};

// Enough for a line of its own for each thread of a benchmark; later threads share.
constexpr size_t kLines = 256;
constinit Line lines[kLines];
constinit std::atomic<size_t> lines_drawn{0};
thread_local constinit Line* own_line = nullptr;

}  // namespace

void EventCounter::Count(Event event, int64_t amount) {
  if (own_line == nullptr) own_line = &lines[lines_drawn.fetch_add(1, std::memory_order_relaxed) % kLines];
  own_line->events[event].fetch_add(amount, std::memory_order_relaxed);
}

int64_t EventCounter::Total(Event event) {
  int64_t total = 0;
  for (const Line& line : lines) total += line.events[event].load(std::memory_order_relaxed);
  return total;
}

int64_t EventCounter::TotalSyscalls() {
  return Total(kWaits) + Total(kReads) + Total(kWrites) + Total(kWakeUps) + Total(kOtherSyscalls);
}

}  // namespace ferry::bench
