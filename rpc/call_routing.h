// How a call finds its way to one of several servers.
#ifndef FERRY_RPC_CALL_ROUTING_H_
#define FERRY_RPC_CALL_ROUTING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/retry_policy.h"
#include "ferry/transport/clock.h"

namespace ferry {

class ClientCall;
class FleetMember;
class PooledConnection;
struct HedgedCall;

// What is known of whether a call that has failed was executed.
enum class Execution : uint8_t {
  kNotSent,        // surely not: never written, refused before its handler ran, or beyond a server's DRAIN
  kMaybeExecuted,  // it was written, and nothing came back
  kExecuted,       // the server has ended it
};

// How far a call that has failed had come, as long as its server had not ended it.
enum class CallPhase : uint8_t {
  kConnect,    // there was no connection
  kHandshake,  // the server had not introduced itself on it
  kQueue,      // it waited for a place on a connection, or to be written, or to be sent again
  kSent,       // nothing came back
  kReading,    // a part of the answer had come
};

// A CallRouter is told of the ends of a call's attempts, and makes others.
class CallRouter {
 public:
  virtual ~CallRouter() = default;
  // An attempt has ended so. Sends the call again, or ends it. On the loop, with nothing locked.
  virtual void OnAttemptEnd(ClientCall& call, absl::Status status) = 0;
  // Whether it says itself, in the call's status, what is known of a call that its server has not ended:
  // otherwise the status that it is told of says so, and stays as it is.
  virtual bool Describes(const ClientCall& call) const = 0;
};

// A CallRouting is what routers keep with each of their calls: the fleet, or the pool of a server's
// connections, or one inside the other.
//
// Belongs to whoever has the call: the thread that starts it, and from then on the loop.
struct CallRouting {
  // As new, but for the memory of the history.
  void Reset() {
    hash.reset();
    if (!history.empty()) history.clear();
    member = nullptr;
    last_member = nullptr;
    attempts = 0;
    runs = 0;
    admitted = false;
    parked_bytes = 0;
    retry_after.reset();
    if (!cancelled.ok()) cancelled = absl::OkStatus();
    connection = nullptr;
    outside_pool = nullptr;
    given_back = false;
    hedged = nullptr;
  }

  // Of the call's options.
  std::optional<uint64_t> hash;
  RetryRules rules;

  // When the call was started, and how its attempts have ended: the last kMaxHistory.
  struct PastAttempt {
    std::string peer;
    transport::Instant began;
    transport::Instant ended;
    absl::Status status;
  };
  static constexpr size_t kMaxHistory = 10;
  transport::Instant started;
  std::vector<PastAttempt> history;

  // Where the attempt under way was sent, and when; null while the call waits.
  std::shared_ptr<FleetMember> member;
  transport::Instant sent_at;
  // Where the one before was sent: for comparison only.
  const FleetMember* last_member = nullptr;
  // How often the call was sent, and how many of these attempts a server may have executed.
  int attempts = 0;
  int runs = 0;
  // It has been let in among those that wait, with so many bytes.
  bool admitted = false;
  size_t parked_bytes = 0;
  // What the server that ended the last attempt has asked for.
  std::optional<absl::Duration> retry_after;
  // Not OK: the call is to end so, and not to be sent again.
  absl::Status cancelled;

  // In a pool: the connection that the call is on, and the router that the pool has taken the place of.
  std::shared_ptr<PooledConnection> connection;
  CallRouter* outside_pool = nullptr;
  // In a pool: one of its connections has given the call back, which waits for another.
  bool given_back = false;
  // What the call shares with its further attempts; null unless it is hedged.
  std::shared_ptr<HedgedCall> hedged;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_ROUTING_H_
