// Noticing that a peer is gone though nothing says so.
#ifndef FERRY_RPC_KEEPALIVE_H_
#define FERRY_RPC_KEEPALIVE_H_

#include <cstdint>
#include <functional>

#include "absl/time/time.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A Keepalive sends PINGs (PROTOCOL.md section 12) while nothing comes from the peer, and says so when none
// is answered: at most twice `time` after the last byte, whatever becomes of packets and processes. A peer
// that sends anything at all is alive.
//
// It looks twice within `time`:
//
//     bytes came since the last look ............ fine
//     none, and it is wanted .................... sends a PING
//     none for `time` after that ................ gone
//
// Belongs to the loop, which must outlive it, as must `connection`.
class Keepalive {
 public:
  struct Options {
    // At least 1 ms; infinite turns it off.
    absl::Duration time = absl::InfiniteDuration();
    // Also while no call is in flight.
    bool when_idle = false;
  };

  // `has_calls` says whether the peer owes an answer. `gone` is run once, and may destroy this.
  Keepalive(const Options& options, transport::EventLoop& loop, transport::Connection& connection,
            std::function<bool()> has_calls, std::function<void()> gone);

  void Begin();
  void End();

 private:
  uint64_t BytesRead() const;
  void LookLater();
  void Look();

  const Options options_;
  transport::EventLoop& loop_;
  transport::Connection& connection_;
  const std::function<bool()> has_calls_;
  const std::function<void()> gone_;
  // How many bytes had come at the last look, and for how many looks a PING has had no answer.
  uint64_t bytes_seen_ = 0;
  int unanswered_ = 0;
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_KEEPALIVE_H_
