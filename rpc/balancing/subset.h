// Which servers of a big fleet one client uses.
#ifndef FERRY_RPC_BALANCING_SUBSET_H_
#define FERRY_RPC_BALANCING_SUBSET_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ferry {

// The indices, ascending, of the `size` servers that the client `client_id` uses: all if there are no more.
// It follows from the arguments alone, and not from the order of the names.
//
// Each server stands at 16 points of a circle, placed by its name; a client stands at the multiple client_id
// of the golden ratio, and uses the first `size` different servers that it meets going round from there.
//
// - Churn is the least possible: a server that comes or goes changes the subset only of the clients that use
//   it, and there by one server. Of the `size * clients / n` clients that do, each opens one connection.
// - Balance: clients numbered 0, 1, 2, ... spread over the circle with bounded gaps. The number of clients of
// a
//   server then varies (its standard deviation against its mean m, simulated for sizes of 20 to 100) by 0.05
//   to 0.08, from the points' places, or by 0.11 if m is only 20. With ids chosen at random it varies by
//   1/sqrt(m) besides, as with any method that does not number clients.
//
// Weights do not count: each server is in as many subsets, and in each takes its part by weight.
//
// Takes O(n) for n servers. The names are all different.
std::vector<size_t> Subset(absl::Span<const absl::string_view> names, uint64_t client_id, size_t size);

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_SUBSET_H_
