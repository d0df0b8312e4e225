// How many connections a client has to a server.
#ifndef FERRY_RPC_POOL_OPTIONS_H_
#define FERRY_RPC_POOL_OPTIONS_H_

#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ferry {

// PoolOptions say how many connections a channel has to each server, and for how long. By default it is one,
// which all calls share.
struct PoolOptions {
  // How many connections are made before calls want them, and are kept. Unset: none in a channel to one
  // server, which connects when the first call comes; and one to each server of a service, of which more than
  // none are needed, for calls go only to servers that are connected. At most max_connections.
  std::optional<size_t> min_connections = std::nullopt;

  // How many connections there may be. In [1, 1024]. One that drains, since another has taken its place, is
  // not counted.
  size_t max_connections = 1;

  // There are as many connections as it takes for none to have more calls in flight than this; when all have
  // so many, another is made, until there are max_connections. From then on each has more, up to what the
  // server allows. At least 1. 100: enough for long batches of frames, and far from the 4,095 calls
  // that a server allows by default, so that a pool has grown before any call waits.
  size_t calls_per_connection = 100;

  // One call at a time on each connection, for large transfers: none shares its bandwidth and its windows
  // with another. A call waits until a connection is free or one more is made; calls_per_connection is not
  // looked at. A call that was cancelled has left its connection. Those on connections that drain, since
  // others have taken their places, are not counted: so there may be more than max_connections at a time.
  bool exclusive = false;

  // A connection beyond min_connections that had no calls for this long is closed. At least 1 ms. Unset: 5
  // minutes if max_connections is over 1, which outlasts pauses in a load, and is about as long as
  // middleboxes remember a connection that is silent; never if it is 1, for connecting again costs a call
  // more than a connection costs anybody.
  std::optional<absl::Duration> idle_timeout = std::nullopt;

  // A connection this old is replaced: when its successor is connected new calls go there, and the old one is
  // closed when its calls have ended. So clients find servers behind an address that spreads connections,
  // which have come later. Each connection's own limit is drawn at random between max_age * (1 -
  // max_age_jitter) and max_age, so that connections made together do not end together. At least 1 ms;
  // infinite by default, for servers that are listed one by one have nothing of it. The jitter is in [0, 1].
  absl::Duration max_age = absl::InfiniteDuration();
  double max_age_jitter = 0.2;

  // What becomes of a call when every connection is in use and there may not be another: exclusive
  // connections have a call each, others as many as the server allows. It waits, as one of the channel's
  // max_waiting_calls and max_waiting_bytes for this server, or ends at once with RESOURCE_EXHAUSTED; also if
  // the service has other servers. Calls wait in any case for connections that are being made.
  enum class WhenFull { kWait, kFail };
  WhenFull when_full = WhenFull::kWait;
};

// INVALID_ARGUMENT, with its name, value and limit, for an option that is out of its bounds. Of a channel to
// a service `of_service` is true.
absl::Status CheckPoolOptions(const PoolOptions& options, bool of_service);

// Whether they ask for more than one connection that is made when needed and kept.
bool WantsPool(const PoolOptions& options, bool of_service);

}  // namespace ferry

#endif  // FERRY_RPC_POOL_OPTIONS_H_
