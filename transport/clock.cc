#include "ferry/transport/clock.h"

#include <sys/resource.h>

#include <ctime>

namespace ferry::transport {
namespace {

class RealClock final : public Clock {
 public:
  // Spelled out because GCC 12 takes the implicit one to be undefined in Real().
  constexpr ~RealClock() override {}

  Instant Now() const override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return {int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec};
  }

  int64_t Interruptions() const override {
    rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
  }
};

}  // namespace

const Clock& Clock::Real() {
  static constexpr RealClock clock;
  return clock;
}

}  // namespace ferry::transport
