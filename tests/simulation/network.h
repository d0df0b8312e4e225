// Connections in memory that a schedule delays, slows, stalls and cuts.
#ifndef FERRY_TESTS_SIMULATION_NETWORK_H_
#define FERRY_TESTS_SIMULATION_NETWORK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "tests/testing/faulty_stream.h"

namespace ferry::simulation {

// A Link is one connection, as the network sees it: its ends, as long as their owners keep them.
//
// Thread-compatible. Faults take effect when the end's loop next runs.
class Link : public std::enable_shared_from_this<Link> {
 public:
  using Faults = test::FaultyStream::Faults;
  enum End { kClient, kServer };

  // Bytes read and written are added to `moved`.
  Link(transport::EventLoop& client, transport::EventLoop& server, std::shared_ptr<uint64_t> moved)
      : moved_(std::move(moved)), ends_{EndState{client}, EndState{server}} {}

  // Puts the faults, none at first, around one end.
  std::unique_ptr<transport::ByteStream> Wrap(End end, std::unique_ptr<transport::ByteStream> stream);

  const Faults& faults(End end) const { return ends_[end].faults; }
  void SetFaults(End end, const Faults& faults);

  // Whether both ends are gone.
  bool gone() const { return ends_[kClient].stream == nullptr && ends_[kServer].stream == nullptr; }

 private:
  class Wrapped;
  struct EndState {
    transport::EventLoop& loop;
    Faults faults = {};
    test::FaultyStream* stream = nullptr;
  };
  const std::shared_ptr<uint64_t> moved_;
  std::array<EndState, 2> ends_;
};

// A Network is where clients connect to whatever server listens at a place just then.
//
// Thread-compatible. It must outlive its connectors.
class Network {
 public:
  // Takes the server's end of a new connection.
  using Accept = std::function<void(std::unique_ptr<transport::ByteStream>)>;

  Network(transport::EventLoop& client, transport::EventLoop& server) : client_(client), server_(server) {}

  // For one client and the servers of one place. Its attempts wait to be answered.
  std::unique_ptr<transport::Connector> NewConnector(size_t place);

  size_t waiting() const { return attempts_.size(); }
  // Where the attempt wants to go that has waited longest. REQUIRES: one waits.
  size_t next_place() const;
  // Answers the attempt that has waited longest: makes a connection, with `capacity` bytes each way, or
  // fails. REQUIRES: one waits.
  void Connect(size_t capacity, const Accept& accept);
  void Refuse();
  // Fails the attempts whose time is over at `now`; whether there were any.
  bool FailLate(transport::Instant now);

  // The connections that have an end left, oldest first.
  const std::vector<std::shared_ptr<Link>>& links();

  // How many bytes all ends have read and written so far.
  uint64_t moved() const { return *moved_; }

 private:
  class SimulatedConnector;
  struct WaitingAttempt;

  void Finish(std::list<WaitingAttempt*>::iterator attempt,
              absl::StatusOr<std::unique_ptr<transport::ByteStream>> result);

  transport::EventLoop& client_;
  transport::EventLoop& server_;
  const std::shared_ptr<uint64_t> moved_ = std::make_shared<uint64_t>(0);
  // Oldest first; not owned.
  std::list<WaitingAttempt*> attempts_;
  std::vector<std::shared_ptr<Link>> links_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_NETWORK_H_
