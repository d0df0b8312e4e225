#include "tests/conformance/connectors.h"

#include "absl/status/statusor.h"
#include "ferry/transport/event_loop.h"
#include "tests/testing/faulty_stream.h"

namespace ferry::test::conformance {
namespace {

// Destroyed, it leaves its task nothing to do.
struct PairAttempt final : transport::Connector::Attempt {
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

StreamKind KindOf(Transport transport) {
  switch (transport) {
    case Transport::kTcp:
      return StreamKind::kTcp;
    case Transport::kUnix:
      return StreamKind::kUnix;
    case Transport::kOneByte:
      break;
  }
  return StreamKind::kMemory;
}

}  // namespace

StreamPair NewPair(Transport transport) {
  StreamPair pair = NewStreamPair(KindOf(transport));
  pair.first = AsRead(transport, std::move(pair.first));
  return pair;
}

std::unique_ptr<transport::ByteStream> AsRead(Transport transport,
                                              std::unique_ptr<transport::ByteStream> stream) {
  if (transport != Transport::kOneByte) return stream;
  return std::make_unique<FaultyStream>(std::move(stream), FaultyStream::Faults{.max_read = 1});
}

std::unique_ptr<transport::Connector::Attempt> PairConnector::Connect(transport::EventLoop& loop,
                                                                      transport::Instant, Callback done) {
  auto attempt = std::make_unique<PairAttempt>();
  loop.Post([this, alive = std::weak_ptr<bool>(attempt->alive), done = std::move(done)]() mutable {
    if (alive.expired()) return;
    StreamPair pair = NewPair(transport_);
    absl::Status accepted = accept_(std::move(pair.second));
    if (!accepted.ok()) return std::move(done)(std::move(accepted));
    std::move(done)(std::move(pair.first));
  });
  return attempt;
}

}  // namespace ferry::test::conformance
