// Making connections.
#ifndef FERRY_TRANSPORT_CONNECTOR_H_
#define FERRY_TRANSPORT_CONNECTOR_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
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

// A SocketConnector connects to the first of some socket addresses that takes it. Each gets an equal share of
// the time that is left.
class SocketConnector final : public Connector {
 public:
  // REQUIRES: `addresses` is not empty.
  SocketConnector(std::vector<SocketAddress> addresses, const SocketOptions& options)
      : addresses_(std::move(addresses)), options_(options) {}

  std::unique_ptr<Attempt> Connect(EventLoop& loop, Instant deadline, Callback done) override;

 private:
  const std::vector<SocketAddress> addresses_;
  const SocketOptions options_;
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
