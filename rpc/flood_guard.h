// A limit on what a peer may ask for in frames that no window and no slot bounds.
#ifndef FERRY_RPC_FLOOD_GUARD_H_
#define FERRY_RPC_FLOOD_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"
#include "ferry/transport/clock.h"

namespace ferry {

// A FloodGuard counts the control frames of one connection: CANCEL, PING, WINDOW, and REQUESTs that are
// refused (PROTOCOL.md [P14.5]). It never reads a clock.
//
// It counts by seconds that begin with a frame: at most twice the limit pass within any one second.
//
// Thread-compatible.
class FloodGuard {
 public:
  // `limit` is the number of frames accepted within a second.
  explicit FloodGuard(uint32_t limit) : limit_(limit) {}

  // Counts a frame that has come at `now`, which never goes back. RESOURCE_EXHAUSTED, with the count and the
  // limit, if it is one too many: the connection must then end.
  absl::Status Count(transport::Instant now);

 private:
  const uint32_t limit_;
  transport::Instant second_began_{};
  uint32_t count_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_FLOOD_GUARD_H_
