#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/floor.h"
#include "ferry/benchmarks/floor_wire.h"

namespace ferry::bench {
namespace {

// A Connection keeps its share of the calls in flight. Thread-compatible.
//
// Its socket blocks when it sends: the server reads whatever happens, so that comes to an end.
class Connection {
 public:
  Connection(const std::string& address, const EchoRequest& request, int in_flight)
      : socket_(FloorConnect(address)), request_(request), starts_(static_cast<size_t>(in_flight)) {}
  ~Connection() { close(socket_); }

  int socket() const { return socket_; }
  int64_t ended() const { return ended_; }
  // Calls begun and not yet ended.
  int64_t in_flight() const { return begun_ - ended_; }

  void Begin() {
    const int64_t now = NowNanos();
    for (size_t i = 0; i < starts_.size(); ++i) BeginCall(now);
    Flush();
  }

  // Receives once, ends the calls that were answered and begins others. An error if an answer is wrong.
  absl::Status OnReady(int receive_flags, Meter& meter) {
    const ssize_t received = input_.Fill(socket_, receive_flags);
    if (received < 0 && errno == EAGAIN) return absl::OkStatus();
    if (received <= 0) return absl::UnavailableError("the floor's server is gone");
    while (const std::optional<std::string_view> message = input_.Take()) {
      if (!reply_.ParseFromArray(message->data(), static_cast<int>(message->size())) ||
          reply_.payload().size() != request_.payload().size()) {
        return absl::DataLossError("the floor's server sent another message back");
      }
      const int64_t now = NowNanos();
      if (meter.GoOn(starts_[static_cast<size_t>(ended_++) % starts_.size()], now)) BeginCall(now);
    }
    Flush();
    return absl::OkStatus();
  }

 private:
  void BeginCall(int64_t now) {
    starts_[static_cast<size_t>(begun_++) % starts_.size()] = now;
    AppendFrame(request_, output_);
  }

  void Flush() {
    for (std::string_view left = output_; !left.empty();) {
      left.remove_prefix(static_cast<size_t>(
          OrDie(static_cast<int>(send(socket_, left.data(), left.size(), MSG_NOSIGNAL)), "send")));
    }
    output_.clear();
  }

  const int socket_;
  const EchoRequest& request_;
  EchoReply reply_;
  FrameInput input_;
  std::string output_;
  // When the calls in flight began, oldest first, from ended_ on.
  std::vector<int64_t> starts_;
  int64_t begun_ = 0;
  int64_t ended_ = 0;
};

// One connection needs no epoll: its receive waits, or asks, by itself.
absl::Status RunOne(Connection& connection, bool polling, Meter& meter) {
  connection.Begin();
  PatientPoll poll;
  while (connection.in_flight() > 0) {
    const int64_t ended = connection.ended();
    absl::Status status = connection.OnReady(polling ? MSG_DONTWAIT : 0, meter);
    if (!status.ok()) return status;
    poll.Asked(connection.ended() == ended);
  }
  return absl::OkStatus();
}

absl::Status RunMany(std::deque<Connection>& connections, bool polling, Meter& meter) {
  const int epoll = OrDie(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  int64_t busy = 0;
  for (Connection& connection : connections) {
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &connection}};
    OrDie(epoll_ctl(epoll, EPOLL_CTL_ADD, connection.socket(), &event), "epoll_ctl");
    connection.Begin();
    ++busy;
  }
  absl::Status status;
  epoll_event events[64];
  PatientPoll poll;
  while (busy > 0 && status.ok()) {
    const int ready = epoll_wait(epoll, events, 64, polling ? 0 : -1);
    poll.Asked(ready == 0);
    for (int i = 0; i < ready && status.ok(); ++i) {
      Connection& connection = *static_cast<Connection*>(events[i].data.ptr);
      status = connection.OnReady(0, meter);
      if (connection.in_flight() == 0) --busy;
    }
  }
  close(epoll);
  return status;
}

}  // namespace

absl::Status Floor::RunClient(const std::string& address, const Work& work, Meter& meter) const {
  EchoRequest request;
  request.set_payload(std::string(work.payload, 'x'));
  const bool polling = waiting_ == Waiting::kPolling;
  std::deque<Connection> connections;
  for (int i = 0; i < work.connections; ++i) connections.emplace_back(address, request, work.in_flight);
  return work.connections == 1 ? RunOne(connections.front(), polling, meter)
                               : RunMany(connections, polling, meter);
}

}  // namespace ferry::bench
