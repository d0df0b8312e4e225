#include "ferry/rpc/balancing/hashing.h"

#include <random>

#include "absl/base/optimization.h"

namespace ferry {

namespace {

// 0: nobody has asked yet. Without code that would have to run first.
constinit thread_local uint64_t thread_state = 0;

}  // namespace

uint64_t ThreadRandom() {
  if (ABSL_PREDICT_FALSE(thread_state == 0)) {
    thread_state = (uint64_t{std::random_device()()} << 32) | std::random_device()();
  }
  return Scatter(thread_state++);
}

void SeedThreadRandom(uint64_t seed) { thread_state = Scatter(seed); }

}  // namespace ferry
