// Hashes that are the same in every process, on every machine and in every release.
#ifndef FERRY_RPC_BALANCING_HASHING_H_
#define FERRY_RPC_BALANCING_HASHING_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace ferry {

// Scatters the bits of `value`: the finalizer of SplitMix64. A bijection; what counts up comes out as if at
// random.
constexpr uint64_t Scatter(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// The hash of a server's name, or of a key that calls are spread by: FNV-1a, scattered. Not for what an
// attacker chooses in order to collide.
constexpr uint64_t HashOf(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return Scatter(hash);
}

// Uniform in [0, bound) if `random` is uniform over all values; 0 if `bound` is 0.
constexpr uint64_t Scale(uint64_t random, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * bound) >> 64);
}

// Uniform in [0, 1) if `random` is uniform over all values.
constexpr double Fraction(uint64_t random) { return static_cast<double>(random >> 11) * 0x1p-53; }

// A random number for a pick, from a generator of the calling thread, which takes its seed from the system.
uint64_t ThreadRandom();

// Has the calling thread's numbers follow from `seed`, for simulations.
void SeedThreadRandom(uint64_t seed);

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_HASHING_H_
