// Making connections.
#ifndef FERRY_TRANSPORT_CONNECTOR_H_
#define FERRY_TRANSPORT_CONNECTOR_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/socket_options.h"

namespace ferry::transport {

// A Connector makes byte streams to one peer.
//
// Thread-compatible. It must outlive its attempts.
class Connector {
 public:
  // An Attempt is one try. Destroying it gives up: the callback will not run. Belongs to its loop.
  class Attempt {
   public:
    virtual ~Attempt() = default;
  };

  using Callback = absl::AnyInvocable<void(absl::StatusOr<std::unique_ptr<ByteStream>>) &&>;

  virtual ~Connector() = default;

  // Tries to connect until `deadline`, and runs `done` once on `loop`, never inside Connect: with a stream,
  // or with UNAVAILABLE and what went wrong with each address. `done` may destroy the attempt. On the loop.
  virtual std::unique_ptr<Attempt> Connect(EventLoop& loop, Instant deadline, Callback done) = 0;
};

// The same addresses, families taking turns, the first address's family first; in each family in the same
// order as before (RFC 8305, section 4, with a First Address Family Count of 1).
std::vector<SocketAddress> InterleaveFamilies(const std::vector<SocketAddress>& addresses);

// A SocketConnector connects to one server by whichever of its addresses answers first: "happy eyeballs", RFC
// 8305. It tries them in the order of InterleaveFamilies, the next one beside the others as soon as the one
// before has failed or has not answered for `attempt_delay`. The first connection wins, and the other tries
// are given up. All have until the deadline.
class SocketConnector final : public Connector {
 public:
  // What RFC 8305, section 8 recommends: long enough for most connections, and hardly felt by people.
  static constexpr absl::Duration kAttemptDelay = absl::Milliseconds(250);

  // REQUIRES: `addresses` is not empty. An infinite `attempt_delay` tries one after the other.
  SocketConnector(const std::vector<SocketAddress>& addresses, const SocketOptions& options,
                  absl::Duration attempt_delay = kAttemptDelay)
      : addresses_(InterleaveFamilies(addresses)), options_(options), attempt_delay_(attempt_delay) {}

  std::unique_ptr<Attempt> Connect(EventLoop& loop, Instant deadline, Callback done) override;

 private:
  const std::vector<SocketAddress> addresses_;
  const SocketOptions options_;
  const absl::Duration attempt_delay_;
};

// A MemoryConnector makes pairs of memory streams, and hands the far ends to a function: the client's side of
// an in-process server.
class MemoryConnector final : public Connector {
 public:
  // `accept` takes a far end, or says why it does not.
  using Accept = std::function<absl::Status(std::unique_ptr<ByteStream>)>;
  explicit MemoryConnector(Accept accept) : accept_(std::move(accept)) {}

  std::unique_ptr<Attempt> Connect(EventLoop& loop, Instant deadline, Callback done) override;

 private:
  const Accept accept_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_CONNECTOR_H_
