// Connectors for the transports of the conformance table.
#ifndef FERRY_TESTS_CONFORMANCE_CONNECTORS_H_
#define FERRY_TESTS_CONFORMANCE_CONNECTORS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/connector.h"
#include "tests/conformance/mode.h"
#include "tests/testing/stream_pair.h"

namespace ferry::test::conformance {

// Two connected streams of a transport, of which `first` is to be read by what is tested.
StreamPair NewPair(Transport transport);

// `stream` as `transport` has it: read one byte at a time, or as it is.
std::unique_ptr<transport::ByteStream> AsRead(Transport transport,
                                              std::unique_ptr<transport::ByteStream> stream);

// A PairConnector connects to a new pair, and hands the far end to a function.
class PairConnector final : public transport::Connector {
 public:
  // Takes a far end, on the client's loop; or says why it does not.
  using Accept = std::function<absl::Status(std::unique_ptr<transport::ByteStream>)>;

  PairConnector(Transport transport, Accept accept) : transport_(transport), accept_(std::move(accept)) {}

  std::unique_ptr<Attempt> Connect(transport::EventLoop& loop, transport::Instant deadline,
                                   Callback done) override;

 private:
  const Transport transport_;
  const Accept accept_;
};

// A CountingAttempts is another connector that counts how often it is to connect. `attempts` must outlive it.
class CountingAttempts final : public transport::Connector {
 public:
  CountingAttempts(std::unique_ptr<transport::Connector> connector, std::atomic<size_t>& attempts)
      : connector_(std::move(connector)), attempts_(attempts) {}

  std::unique_ptr<Attempt> Connect(transport::EventLoop& loop, transport::Instant deadline,
                                   Callback done) override {
    ++attempts_;
    return connector_->Connect(loop, deadline, std::move(done));
  }

 private:
  const std::unique_ptr<transport::Connector> connector_;
  std::atomic<size_t>& attempts_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_CONNECTORS_H_
