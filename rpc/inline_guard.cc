#include "ferry/rpc/inline_guard.h"

namespace ferry {

bool InlineGuard::Report(transport::Instant start, transport::Instant end) {
  if (end - start <= options_.budget) {
    int overstays = overstays_.load(std::memory_order_relaxed);
    if (overstays > 0)
      overstays_.compare_exchange_strong(overstays, overstays - 1, std::memory_order_relaxed);
    return false;
  }
  if (overstays_.fetch_add(1, std::memory_order_relaxed) + 1 < options_.tolerance) return false;
  overstays_.store(0, std::memory_order_relaxed);
  away_until_.store((end + options_.time_away).nanos, std::memory_order_relaxed);
  times_moved_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace ferry
