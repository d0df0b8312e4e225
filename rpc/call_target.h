// Where a channel's calls go.
#ifndef FERRY_RPC_CALL_TARGET_H_
#define FERRY_RPC_CALL_TARGET_H_

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/call_cancellation.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// A CallTarget takes calls and sees to it that each ends once: one server (Endpoint,
// ConnectionPool), or those of a service (Fleet).
//
// Start, FailLater and CancelLater are Thread-safe; the rest belongs to the loop unless it says otherwise.
// Owned by shared_ptr: by its channel, and by tasks on the loop.
class CallTarget : public CallCancellation::Canceller {
 public:
  // Sends a call as soon as that can be done. `request` is read before this returns; `size` is
  // request.ByteSizeLong(), just called. Ends the call, on the loop, if it cannot be sent.
  virtual void Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t size) = 0;

  // Ends a call that was never started, on the loop.
  virtual void FailLater(ClientCall& call, absl::Status why) = 0;

  // As CancelCall, but on the loop later, if `call`, which has been started, has not ended then.
  virtual void CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) = 0;

  // Ends every call with `why`, and closes. Calls started afterwards end so too.
  virtual void Close(const absl::Status& why) = 0;

  // Whether calls that could not be sent are still to be ended. Thread-safe.
  virtual bool has_failures() const = 0;
  // How many calls have not ended, or kUnknown if there may be some of which only the loop knows.
  // Thread-safe.
  virtual size_t calls() = 0;
  static constexpr size_t kUnknown = std::numeric_limits<size_t>::max();
  bool has_calls() { return calls() > 0; }
  // Whether there are any that other threads than the loop's may have started. Thread-safe.
  virtual bool has_shared_calls() = 0;

  // Appends what there is to say of each of its connections.
  virtual void AppendConnections(std::vector<ConnectionStats>& to) = 0;

  virtual transport::EventLoop& loop() const = 0;
  // What this side accepts.
  virtual const WireSettings& settings() const = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_TARGET_H_
