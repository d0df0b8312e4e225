#include "tests/simulation/network.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/transport/memory_stream.h"

namespace ferry::simulation {

using test::FaultyStream;
using transport::ByteStream;
using transport::EventLoop;
using transport::Instant;
using transport::IoResult;

// A Wrapped is an end's faulty stream, of whose end the link is told.
class Link::Wrapped final : public ByteStream {
 public:
  Wrapped(std::shared_ptr<Link> link, End end, std::unique_ptr<FaultyStream> stream)
      : link_(std::move(link)), end_(end), stream_(std::move(stream)) {
    link_->ends_[end_].stream = stream_.get();
  }
  ~Wrapped() override { link_->ends_[end_].stream = nullptr; }

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override {
    return stream_->Watch(loop, handler);
  }
  IoResult Read(absl::Span<const iovec> parts) override { return Counted(stream_->Read(parts)); }
  IoResult Write(absl::Span<const iovec> parts) override { return Counted(stream_->Write(parts)); }
  void FinishWriting() override { stream_->FinishWriting(); }
  void Close() override { stream_->Close(); }
  std::string peer() const override { return stream_->peer(); }

 private:
  IoResult Counted(IoResult result) {
    *link_->moved_ += result.bytes;
    return result;
  }

  const std::shared_ptr<Link> link_;
  const End end_;
  const std::unique_ptr<FaultyStream> stream_;
};

std::unique_ptr<ByteStream> Link::Wrap(End end, std::unique_ptr<ByteStream> stream) {
  return std::make_unique<Wrapped>(shared_from_this(), end,
                                   std::make_unique<FaultyStream>(std::move(stream), ends_[end].faults));
}

void Link::SetFaults(End end, const Faults& faults) {
  ends_[end].faults = faults;
  ends_[end].loop.Post([link = shared_from_this(), end] {
    const EndState& state = link->ends_[end];
    if (state.stream != nullptr) state.stream->SetFaults(state.faults);
  });
}

// ---------------------------------------------------------------- Connecting

struct Network::WaitingAttempt final : transport::Connector::Attempt {
  WaitingAttempt(Network& n, size_t where, Instant until, transport::Connector::Callback callback)
      : network(n), to(where), deadline(until), done(std::move(callback)) {
    place = network.attempts_.insert(network.attempts_.end(), this);
  }
  ~WaitingAttempt() override {
    if (waiting) network.attempts_.erase(place);
  }

  Network& network;
  const size_t to;
  const Instant deadline;
  transport::Connector::Callback done;
  bool waiting = true;
  std::list<WaitingAttempt*>::iterator place;
  // Told apart from an attempt that was given up.
  const std::shared_ptr<bool> alive = std::make_shared<bool>();
};

class Network::SimulatedConnector final : public transport::Connector {
 public:
  SimulatedConnector(Network& network, size_t place) : network_(network), place_(place) {}
  std::unique_ptr<Attempt> Connect(EventLoop&, Instant deadline, Callback done) override {
    return std::make_unique<WaitingAttempt>(network_, place_, deadline, std::move(done));
  }

 private:
  Network& network_;
  const size_t place_;
};

std::unique_ptr<transport::Connector> Network::NewConnector(size_t place) {
  return std::make_unique<SimulatedConnector>(*this, place);
}

size_t Network::next_place() const { return attempts_.front()->to; }

void Network::Finish(std::list<WaitingAttempt*>::iterator attempt,
                     absl::StatusOr<std::unique_ptr<ByteStream>> result) {
  WaitingAttempt& one = **attempt;
  one.waiting = false;
  attempts_.erase(attempt);
  client_.Post([alive = std::weak_ptr<bool>(one.alive), done = std::move(one.done),
                result = std::move(result)]() mutable {
    if (!alive.expired()) std::move(done)(std::move(result));
  });
}

void Network::Connect(size_t capacity, const Accept& accept) {
  auto link = std::make_shared<Link>(client_, server_, moved_);
  transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create(capacity);
  links_.push_back(link);
  accept(link->Wrap(Link::kServer, std::move(pair.second)));
  Finish(attempts_.begin(), link->Wrap(Link::kClient, std::move(pair.first)));
}

void Network::Refuse() { Finish(attempts_.begin(), absl::UnavailableError("nobody listens there")); }

bool Network::FailLate(Instant now) {
  bool any = false;
  for (auto attempt = attempts_.begin(); attempt != attempts_.end();) {
    const auto one = attempt++;
    if ((*one)->deadline > now) continue;
    Finish(one, absl::UnavailableError("connecting took too long"));
    any = true;
  }
  return any;
}

const std::vector<std::shared_ptr<Link>>& Network::links() {
  std::erase_if(links_, [](const std::shared_ptr<Link>& link) { return link->gone(); });
  return links_;
}

}  // namespace ferry::simulation
