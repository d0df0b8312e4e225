// A proxy for byte streams that delays, swallows and breaks them as told.
#ifndef FERRY_TESTS_TESTING_FAULT_PROXY_H_
#define FERRY_TESTS_TESTING_FAULT_PROXY_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"

namespace ferry::test {

// A FaultProxy listens on an address and passes what comes to another address and back, with faults that may
// be changed at any time: put it between a client and a server, and let the network between them fail.
//
//   absl::StatusOr<std::unique_ptr<FaultProxy>> proxy = FaultProxy::Create("127.0.0.1:7000", {});
//   Channel::Create((*proxy)->address(), {});
//   (*proxy)->SetFaults({.delay = absl::Milliseconds(50)});
//
// It runs on one thread of its own and knows nothing of what it passes. It holds at most
// Options::buffer_bytes for each direction of each connection, and stops reading beyond that: a slow reader
// slows its writer, as it does without a proxy.
//
// Thread-safe, but not to be used or destroyed on its own thread. What a function here asks for has been done
// when it returns. Destroying the proxy closes its connections.
class FaultProxy {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  // What becomes of a client that connects.
  enum class NewConnections {
    kAccept,
    // Nobody listens: connecting ends with ECONNREFUSED.
    kRefuse,
    // Connecting does not end: the kernel drops what asks for a connection. A client that has waited is let
    // in after this, when its kernel asks again: TCP's does after 1 s, 3 s, 7 s and so on. On a Unix socket
    // connecting blocks, or answers EAGAIN.
    kHang,
  };

  // The defaults are no fault at all. All count for each connection, the two directions apart.
  struct Faults {
    // How much later what comes in goes out, each way. Bytes already under way keep their delay; none
    // overtakes another. A path of this delay carries at most Options::buffer_bytes in that time.
    absl::Duration delay = absl::ZeroDuration();
    // The most that goes out in a second; 0 is no limit. In pieces of a hundredth of that.
    uint64_t bytes_per_second = 0;
    // The most bytes that are written at once, with other work of the proxy's in between; 0 is no limit. With
    // 1 the receiver sees its messages cut everywhere; its kernel may still put some pieces together again.
    size_t max_piece = 0;

    // Nothing is read or written, as by a network that is down for a while: what is on its way arrives after
    // this.
    bool stall = false;
    // Bytes, and the ends of connections, are taken and vanish, each way. Connections stay open, new ones too
    // are accepted and get nothing. One that has lost something stays a black hole after this, for it would
    // carry garbage.
    bool black_hole = false;
    NewConnections new_connections = NewConnections::kAccept;

    // How many bytes of a connection, counted from its beginning, go to the server, or to the client, before
    // the connection is ended on both sides: cleanly (FIN), or with a reset.
    uint64_t cut_to_server_after = kNever;
    uint64_t cut_to_client_after = kNever;
    bool cut_with_reset = false;
  };

  // What has happened since the proxy was made.
  struct Counters {
    uint64_t connections = 0;         // accepted
    uint64_t open_connections = 0;    // now
    uint64_t failed_connections = 0;  // accepted, but the server could not be connected to: they were reset
    uint64_t bytes_from_client = 0;   // read, swallowed ones too
    uint64_t bytes_from_server = 0;
    uint64_t bytes_to_server = 0;  // written
    uint64_t bytes_to_client = 0;
    // Faults: bytes that vanished, connections that were reset as asked for, and that were cut.
    uint64_t bytes_swallowed = 0;
    uint64_t resets = 0;
    uint64_t cuts = 0;
    // Bytes held now, of all connections.
    uint64_t bytes_held = 0;
  };

  struct Options {
    // Where to listen: "host:port", "[v6]:port", "unix:/path" or "unix-abstract:name"; port 0 is any free
    // one. A file in a Unix socket's place is replaced.
    std::string listen = "127.0.0.1:0";
    // Bytes held for one direction of one connection. A piece that was read at once counts as at least 64.
    size_t buffer_bytes = 1024 * 1024;
    // Says when what is delayed is due; not owned. The proxy does not notice that a clock which is moved by
    // hand has moved: see Catchup.
    const transport::Clock* clock = &transport::Clock::Real();
  };

  // Begins to listen, and to pass what comes to `upstream`, an address as above, of which nothing is asked
  // until somebody connects. INVALID_ARGUMENT, or the system's error, with the address that is wrong.
  static absl::StatusOr<std::unique_ptr<FaultProxy>> Create(std::string_view upstream,
                                                            const Options& options);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  // Where clients connect, with the port that was found for port 0. The proxy keeps the port also while it
  // refuses connections.
  const std::string& address() const;

  // From now on, for connections that are open too. Replaces what was set before. An error if connections can
  // not be taken again, for a Unix socket's path is not to be had any more.
  absl::Status SetFaults(const Faults& faults);

  // Resets every open connection on both sides: TCP's RST. A Unix socket's peer sees ECONNRESET if it had
  // sent what was not read yet, and otherwise an end.
  void ResetConnections();
  // Resets the next `count` connections as soon as they are accepted.
  void ResetNext(int count);

  Counters counters() const;

  // Does what is due, and returns when that is done. For clocks that are moved by hand.
  void Catchup();

 private:
  class Core;

  explicit FaultProxy(std::unique_ptr<Core> core);

  const std::unique_ptr<Core> core_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_FAULT_PROXY_H_
