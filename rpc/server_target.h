// The way to one server, over one connection or several.
#ifndef FERRY_RPC_SERVER_TARGET_H_
#define FERRY_RPC_SERVER_TARGET_H_

#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_call.h"

namespace ferry {

// A ServerTarget is the CallTarget of one server: an Endpoint, or a ConnectionPool of several. Who has a
// Watcher for it has other servers: the target then connects before any call wants it, and gives calls back
// rather than have them wait for a connection.
//
// As CallTarget.
class ServerTarget : public CallTarget {
 public:
  // A Watcher has other places for calls.
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // The server has become ready or is no longer, or has failed to be connected to again; last_error() says
    // why. On the loop; may close the target.
    virtual void OnStateChange(ServerTarget& server) = 0;
    // Calls that were surely not executed here, and cannot be sent now: they have not ended, and are the
    // watcher's. In the order they were started. On the loop.
    virtual void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) = 0;
  };

  // Sends a call whose request is kept with it. One that was `admitted`, since it was sent or has waited
  // before, is held to no limit of what may wait; another ends, later, with RESOURCE_EXHAUSTED where Start
  // would have it end so. On the loop.
  virtual void StartAgain(ClientCall& call, bool admitted) = 0;
  // Connects, and again whenever a connection is lost. On the loop.
  virtual void KeepConnected() = 0;
  // A call wants a connection: if it waits to be tried again, that is soon now. On the loop.
  virtual void ConnectSoon() = 0;
  // Whether calls can be sent at once. On the loop.
  virtual bool ready() const = 0;
  // Whether connecting has failed since the server last introduced itself, or it has turned calls away twice
  // in a row; whatever attempt is under way. Thread-safe.
  virtual bool failing() = 0;
  // Why the last connection was lost or could not be made. Thread-safe.
  virtual absl::Status last_error() = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_TARGET_H_
