#include "ferry/rpc/balancing/subset.h"

#include <algorithm>

#include "ferry/rpc/balancing/hashing.h"

namespace ferry {
namespace {

constexpr uint64_t kPoints = 16;
// 2^64 over the golden ratio.
constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15;

struct Point {
  // How far round the circle from the client.
  uint64_t distance;
  size_t server;
};

bool IsNearer(const Point& a, const Point& b) { return a.distance < b.distance; }

}  // namespace

std::vector<size_t> Subset(absl::Span<const absl::string_view> names, uint64_t client_id, size_t size) {
  std::vector<size_t> chosen;
  if (names.size() <= size) {
    chosen.reserve(names.size());
    for (size_t i = 0; i < names.size(); ++i) chosen.push_back(i);
    return chosen;
  }
  // A server is met first at its nearest point: the others do not matter.
  std::vector<Point> nearest;
  nearest.reserve(names.size());
  const uint64_t place = client_id * kGoldenRatio;
  for (size_t i = 0; i < names.size(); ++i) {
    const uint64_t name = HashOf(names[i]);
    uint64_t distance = ~uint64_t{0};
    for (uint64_t point = 0; point < kPoints; ++point) {
      distance = std::min(distance, Scatter(name + Scatter(point)) - place);
    }
    nearest.push_back({distance, i});
  }
  std::nth_element(nearest.begin(), nearest.begin() + static_cast<std::ptrdiff_t>(size), nearest.end(),
                   IsNearer);
  chosen.reserve(size);
  for (size_t i = 0; i < size; ++i) chosen.push_back(nearest[i].server);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace ferry
