// Choosing the server of a call.
#ifndef FERRY_RPC_BALANCING_BALANCER_H_
#define FERRY_RPC_BALANCING_BALANCER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/transport/clock.h"

namespace ferry {

// How the servers of a service share its calls.
enum class BalancingPolicy {
  // All calls go to the first server in the list that is usable.
  kPickFirst,
  // Each server in turn, as often as its weight says.
  kRoundRobin,
  // The less loaded of two servers that are drawn at random: by calls in flight, latency and weight.
  kLeastLoaded,
  // Calls of one key go to one server, and few keys move when servers come and go.
  kConsistentHash,
};

// A Candidate is one server of the service, as the balancer sees it: a value that views its texts.
struct Candidate {
  // What it goes by (ResolvedServer::name). Consistent hashing places it by nothing else.
  absl::string_view name = {};

  // Its share of the calls, against those of the others. 0 counts as 1, and what is over kMaxWeight as that:
  // one bad number in a list must take neither its server nor the others out of use.
  uint32_t weight = 1;

  // The part of its weight that it gets just now: less than 1 while it is let back in
  // (OutlierDetector::Change::weight_factor). At least kMinFactor.
  double weight_factor = 1;

  // Where it is ("region/zone"). Empty if nobody said.
  absl::string_view locality = {};

  // Those with the smallest value are used while enough of them are usable.
  uint32_t priority = 0;

  // Whether calls may go to it: it is connected, or may be connected to, healthy and not ejected. The others
  // are named all the same: what share of a priority is usable depends on them.
  bool usable = true;

  // Never null.
  std::shared_ptr<const ServerLoad> load = {};

  static constexpr uint32_t kMaxWeight = 1'000'000;
  static constexpr double kMinFactor = 0.001;
};

// What a pick depends on besides the servers: a value.
struct PickArguments {
  // Now: estimates of latency age.
  transport::Instant now = {};

  // Uniformly random (ThreadRandom() in hashing.h).
  uint64_t random = 0;

  // For kConsistentHash: the hash of the call's key (HashOf). A call without one goes anywhere.
  std::optional<uint64_t> hash_key = {};

  // Servers that are not to be picked, as this call has been tried there: indices as Pick returns them, in
  // any order. Few: each costs a comparison or two.
  absl::Span<const size_t> exclude = {};
};

// A Picker chooses a server for each call, among those that were usable when it was made.
//
// Thread-safe, without locks; immutable, but for counters. A new one takes its place when the set of servers,
// or anything in a Candidate, changes. Shared, so that a thread may go on using one that is being replaced.
class Picker {
 public:
  virtual ~Picker() = default;

  // The index of a server in the candidates that the picker was made from; nullopt if none is usable and not
  // excluded: the caller may then try without excluding. Picking starts nothing: the caller tells the
  // server's ServerLoad. Takes O(1), or O(log n) for round-robin and consistent hashing, of n servers.
  virtual std::optional<size_t> Pick(const PickArguments& arguments) const = 0;
};

struct BalancingOptions {
  // Two choices keep a slow server from slowing all, which round-robin does not, and need no key.
  BalancingPolicy policy = BalancingPolicy::kLeastLoaded;

  // kConsistentHash: a server has at most this many times the calls in flight that its weight is due; further
  // ones go to the next server on the ring. Over 1. At 1.25 a hot key overloads nobody by more than a
  // quarter, and as a fifth of the servers always has room, a call is passed on four times at most on the
  // average. Infinity: no bound.
  double load_bound = 1.25;
  // No server is passed over with fewer calls in flight than this, whatever the bound: below that it is not
  // busy, and moving keys only costs their caches. At least 1.
  uint32_t load_bound_floor = 4;

  // A priority takes all calls while this share of its weight is usable. With less it takes less in
  // proportion, and the next priority the rest: what is left of it can carry that. In (0, 1].
  double enough_of_priority = 0.7;

  // Where this client is. Calls prefer servers of the same locality, compared as a whole; empty: none.
  std::string locality = {};
  // Which share of the service's callers is in this locality, if it is known: in (0, 1]. 0 assumes as many in
  // each locality that has servers. The servers of the own locality take all calls of this client if they
  // have this share of all usable weight or more; otherwise only what they are due, and others take the rest.
  double share_of_callers = 0;
};

// A Balancer makes pickers.
//
// Thread-compatible.
class Balancer {
 public:
  virtual ~Balancer() = default;

  // INVALID_ARGUMENT, naming the option, for one that is out of its bounds. `seed` decides where round-robin
  // begins; 0 takes one from the system.
  static absl::StatusOr<std::unique_ptr<Balancer>> Create(const BalancingOptions& options, uint64_t seed = 0);

  // A picker among `candidates`, which may be none. Their texts are not used after this returns. Takes
  // O(n log n); consistent hashing has 100 points for a server of median weight.
  virtual std::shared_ptr<const Picker> MakePicker(absl::Span<const Candidate> candidates) = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_BALANCER_H_
