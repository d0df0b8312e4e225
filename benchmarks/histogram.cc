#include "ferry/benchmarks/histogram.h"

#include <cmath>
#include <numeric>

namespace ferry::bench {

void Histogram::Add(const Histogram& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

int64_t Histogram::count() const { return std::accumulate(counts_.begin(), counts_.end(), int64_t{0}); }

int64_t Histogram::Percentile(double share) const {
  const int64_t total = count();
  if (total == 0) return 0;
  int64_t left = std::max<int64_t>(1, std::llround(std::ceil(share * static_cast<double>(total))));
  size_t bucket = 0;
  while ((left -= counts_[bucket]) > 0) ++bucket;
  return Last(bucket);
}

int64_t Histogram::Last(size_t bucket) {
  constexpr size_t kHalf = size_t{1} << (kLinearBits - 1);
  if (bucket < 2 * kHalf) return static_cast<int64_t>(bucket);
  const size_t shift = bucket / kHalf - 1;
  const uint64_t first = (bucket - shift * kHalf) << shift;
  return static_cast<int64_t>(first + (uint64_t{1} << shift) - 1);
}

}  // namespace ferry::bench
