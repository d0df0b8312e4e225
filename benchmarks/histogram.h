// How long calls took, as a distribution.
#ifndef FERRY_BENCHMARKS_HISTOGRAM_H_
#define FERRY_BENCHMARKS_HISTOGRAM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ferry::bench {

// A Histogram counts durations in buckets that grow with what they hold, so that recording is a few
// instructions and every percentile is at most 1.6% too high.
//
//   bucket   0 .. 127   one nanosecond each
//   then, for every power of two from 128 ns, 64 buckets of equal width
//
// Thread-compatible.
class Histogram {
 public:
  // Negative durations count as 0.
  void Record(int64_t nanos) { ++counts_[Bucket(nanos < 0 ? 0 : static_cast<uint64_t>(nanos))]; }

  // Adds all that `other` has recorded.
  void Add(const Histogram& other);

  int64_t count() const;

  // The duration in nanoseconds that `share` of the recorded ones do not exceed; 0 if there are none.
  // REQUIRES: 0 <= share <= 1.
  int64_t Percentile(double share) const;

 private:
  static constexpr int kLinearBits = 7;

  static size_t Bucket(uint64_t nanos) {
    const int shift = nanos >> kLinearBits == 0 ? 0 : std::bit_width(nanos) - kLinearBits;
    return (static_cast<size_t>(shift) << (kLinearBits - 1)) + (nanos >> shift);
  }
  // The greatest duration that falls into `bucket`.
  static int64_t Last(size_t bucket);

  std::array<int64_t, (64 - kLinearBits + 2) << (kLinearBits - 1)> counts_{};
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_HISTOGRAM_H_
