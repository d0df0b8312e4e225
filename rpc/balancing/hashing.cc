#include "ferry/rpc/balancing/hashing.h"

#include <random>

namespace ferry {

uint64_t ThreadRandom() {
  thread_local uint64_t state = (uint64_t{std::random_device()()} << 32) | std::random_device()();
  return Scatter(state++);
}

}  // namespace ferry
