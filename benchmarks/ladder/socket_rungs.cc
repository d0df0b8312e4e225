#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "ferry/benchmarks/floor_wire.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/benchmarks/now.h"

namespace ferry::bench {
namespace {

constexpr size_t kBytes = 64;

// Receives kBytes; false at the end of the stream.
bool Receive(int socket, bool polling) {
  char bytes[kBytes];
  PatientPoll poll;
  for (size_t have = 0; have < kBytes;) {
    const ssize_t received = recv(socket, bytes, kBytes - have, polling ? MSG_DONTWAIT : 0);
    if (received == 0 || (received < 0 && errno != EAGAIN)) return false;
    poll.Asked(received < 0);
    if (received > 0) have += static_cast<size_t>(received);
  }
  return true;
}

void Send(int socket) {
  const char bytes[kBytes] = {};
  OrDie(static_cast<int>(send(socket, bytes, kBytes, MSG_NOSIGNAL)), "send");
}

// A Listener listens at an address until it is destroyed.
class Listener {
 public:
  explicit Listener(const std::string& address) : fd_(FloorListen(address)) {}
  ~Listener() { close(fd_); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  std::string address() const { return FloorAddress(fd_); }
  int Accept() const { return OrDie(accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC), "accept4"); }

 private:
  const int fd_;
};

Rung RoundTrip(const std::string& name, const std::string& address, bool polling,
               const LadderOptions& options) {
  const Listener listener(address);
  const int client = FloorConnect(listener.address());
  std::thread echo([server = listener.Accept(), polling] {
    SetNoDelay(server);
    while (Receive(server, polling)) Send(server);
    close(server);
  });
  Rung rung = Measure(name + (polling ? " round trip, polling" : " round trip"),
                      polling ? "64 bytes there and back, both sides asking again and again"
                              : "64 bytes there and back, both sides asleep in recv",
                      options, [&] {
                        Send(client);
                        Receive(client, polling);
                      });
  shutdown(client, SHUT_RDWR);
  echo.join();
  close(client);
  return rung;
}

Rung Connect(const std::string& name, const std::string& address, const LadderOptions& options) {
  const Listener listener(address);
  const std::string at = listener.address();
  return MeasureTimed(name + " connect", "socket and connect, to a listener that has room", options, [&] {
    const int64_t start = NowNanos();
    const int client = FloorConnect(at);
    const int64_t took = NowNanos() - start;
    close(listener.Accept());
    close(client);
    return took;
  });
}

}  // namespace

Rungs SocketRungs(const LadderOptions& options) {
  std::string directory = "/tmp/ferry-ladder-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) OrDie(-1, directory.c_str());
  int number = 0;
  Rungs rungs;
  for (const bool tcp : {true, false}) {
    const std::string name = tcp ? "TCP" : "Unix socket";
    const auto address = [&] {
      return tcp ? std::string("127.0.0.1:0") : "unix:" + directory + "/" + std::to_string(++number);
    };
    for (const bool polling : {false, true}) rungs.push_back(RoundTrip(name, address(), polling, options));
    rungs.push_back(Connect(name, address(), options));
  }
  std::filesystem::remove_all(directory);
  return rungs;
}

}  // namespace ferry::bench
