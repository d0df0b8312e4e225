#include "ferry/benchmarks/ladder/baton.h"
#include "ferry/benchmarks/ladder/rungs.h"

namespace ferry::bench {
namespace {

template <typename Baton>
Rung HandOver(const char* name, const char* note, const LadderOptions& options) {
  Partner<Baton> partner;
  constexpr int kHandOvers = 2;
  return Measure(
      name, note, options, [&] { partner.ThereAndBack(); }, /*batch=*/1, kHandOvers);
}

}  // namespace

Rungs WakeRungs(const LadderOptions& options) {
  return {
      HandOver<SpinBaton>("hand-over, spinning", "a flag that the other thread keeps looking at", options),
      HandOver<FutexBaton>("futex wake and switch", "until the other thread runs, half of there and back",
                           options),
      HandOver<EventFdBaton>("eventfd wake", "a write until a blocking read returns, half of there and back",
                             options),
      HandOver<QueueBaton>("queue hand-over",
                           "std::mutex and std::condition_variable, half of there and back", options),
  };
}

}  // namespace ferry::bench
