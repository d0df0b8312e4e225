// Random choices that follow from a seed.
#ifndef FERRY_TESTS_SIMULATION_DICE_H_
#define FERRY_TESTS_SIMULATION_DICE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "absl/types/span.h"

namespace ferry::simulation {

// Scatters the bits of `value` (the finalizer of SplitMix64).
constexpr uint64_t Scatter(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// A Dice is a generator whose numbers are the same for the same seed, on every machine and with every
// standard library.
//
// Thread-compatible.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(Scatter(seed)) {}

  uint64_t Next() { return Scatter(state_++); }
  // Uniform in [0, bound). REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  // Uniform in [least, most].
  uint64_t Between(uint64_t least, uint64_t most) { return least + Below(most - least + 1); }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  // One of `values`.
  uint64_t OneOf(std::initializer_list<uint64_t> values) { return values.begin()[Below(values.size())]; }
  // An index, each as often as its weight says. REQUIRES: their sum is over 0.
  size_t Weighted(absl::Span<const uint32_t> weights) {
    uint64_t sum = 0;
    for (const uint32_t weight : weights) sum += weight;
    uint64_t at = Below(sum);
    size_t index = 0;
    while (at >= weights[index]) at -= weights[index++];
    return index;
  }

 private:
  uint64_t state_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_DICE_H_
