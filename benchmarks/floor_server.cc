#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/floor.h"
#include "ferry/benchmarks/floor_wire.h"

namespace ferry::bench {
namespace {

// A Connection answers what one client asks. Belongs to the server's thread.
class Connection {
 public:
  Connection(int epoll, int socket) : epoll_(epoll), socket_(socket) {
    SetNoDelay(socket);
    Watch(EPOLL_CTL_ADD, EPOLLIN);
  }
  ~Connection() { close(socket_); }

  // Returns whether the connection goes on.
  bool OnReady(EchoRequest& request, EchoReply& reply) {
    const ssize_t received = input_.Fill(socket_, 0);
    if (received == 0 || (received < 0 && errno != EAGAIN)) return false;
    while (const std::optional<std::string_view> message = input_.Take()) {
      if (!request.ParseFromArray(message->data(), static_cast<int>(message->size()))) return false;
      reply.set_payload(request.payload());
      AppendFrame(reply, output_);
    }
    return Flush();
  }

 private:
  bool Flush() {
    if (output_.empty()) return true;
    const ssize_t sent = send(socket_, output_.data() + sent_, output_.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent > 0) sent_ += static_cast<size_t>(sent);
    const bool all_sent = sent_ == output_.size();
    if (2 * sent_ > output_.size()) output_.erase(0, std::exchange(sent_, 0));
    if (all_sent == waits_to_send_) {
      waits_to_send_ = !all_sent;
      Watch(EPOLL_CTL_MOD, all_sent ? EPOLLIN : EPOLLIN | EPOLLOUT);
    }
    return true;
  }

  void Watch(int operation, uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = socket_}};
    OrDie(epoll_ctl(epoll_, operation, socket_, &event), "epoll_ctl");
  }

  const int epoll_;
  const int socket_;
  FrameInput input_;
  // The first sent_ bytes have left.
  std::string output_;
  size_t sent_ = 0;
  bool waits_to_send_ = false;
};

// A FloorServer serves on one thread until it is destroyed.
class FloorServer final : public EchoServer {
 public:
  FloorServer(int listener, int timeout)
      : listener_(listener), timeout_(timeout), thread_([this] { Serve(); }) {}
  ~FloorServer() override {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  std::string address() const override { return FloorAddress(listener_); }

 private:
  void Serve() {
    const int epoll = OrDie(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    epoll_event event{.events = EPOLLIN, .data = {.fd = listener_}};
    OrDie(epoll_ctl(epoll, EPOLL_CTL_ADD, listener_, &event), "epoll_ctl");
    std::map<int, Connection> connections;
    EchoRequest request;
    EchoReply reply;
    epoll_event events[64];
    PatientPoll poll;
    for (bool open = true; open;) {
      const int ready = epoll_wait(epoll, events, 64, timeout_);
      poll.Asked(ready == 0);
      for (int i = 0; i < ready; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_) {
          open = Accept(epoll, connections);
        } else if (!connections.at(fd).OnReady(request, reply)) {
          connections.erase(fd);
        }
      }
    }
    close(epoll);
  }

  // Returns false once the listener is shut down.
  bool Accept(int epoll, std::map<int, Connection>& connections) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket >= 0) connections.try_emplace(socket, epoll, socket);
    return socket >= 0;
  }

  const int listener_;
  const int timeout_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EchoServer>> Floor::StartServer(const std::string& address) const {
  return std::make_unique<FloorServer>(FloorListen(address), waiting_ == Waiting::kPolling ? 0 : -1);
}

}  // namespace ferry::bench
