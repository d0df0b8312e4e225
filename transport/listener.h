// Taking connections.
#ifndef FERRY_TRANSPORT_LISTENER_H_
#define FERRY_TRANSPORT_LISTENER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/transport/address.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/socket_options.h"

namespace ferry::transport {

// A Listener accepts connections on one address until it is destroyed.
//
// On TCP each loop has a listening socket of its own (SO_REUSEPORT), and the kernel spreads connections over
// them; a Unix socket is accepted on one loop, and its connections go to the loops in turn. When the process
// is out of file descriptors a socket stops accepting for a while, instead of spinning.
//
// Thread-compatible, but not to be destroyed on one of its loops.
class Listener {
 public:
  // A Handler is told of connections. Thread-safe.
  class Handler {
   public:
    virtual ~Handler() = default;
    // `stream` is connected, and to be used on `loop`, the thread this is called on.
    virtual void OnAccepted(std::unique_ptr<ByteStream> stream, EventLoop& loop) = 0;
    // Something that an operator should know, as a line of text: once for each time accepting has to pause.
    virtual void OnProblem(const std::string& line) = 0;
  };

  struct Options {
    SocketOptions socket;
    // Lets other listeners, of other processes too, share the port, or take over the path of a Unix socket:
    // the newest has it, and connections that wait for the one before are still that one's. Without it a port
    // or path in use is an error; an abstract name in use always is.
    bool reuse_port = false;
    // Connections that may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn).
    int backlog = 1024;
    // How long to stop accepting when out of file descriptors.
    absl::Duration pause = absl::Milliseconds(100);
  };

  // Begins to listen. UNAVAILABLE or the code of the system's error, with the address and what is wrong:
  // ports in use, hosts that are not this machine's, a path that exists and is a live server's or no socket
  // at all. A socket file that no server listens on any more is replaced. `loops` is not owned and must
  // outlive the listener.
  static absl::StatusOr<std::unique_ptr<Listener>> Create(const Address& address, const Options& options,
                                                          LoopGroup& loops,
                                                          const std::shared_ptr<Handler>& handler);

  // Accepts what has connected by now, and stops; returns when no handler runs any more. Removes the file of
  // a Unix socket, unless it has been replaced meanwhile.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // In the form that Address::Parse reads, with the port that was found for port 0.
  std::string address() const;

 private:
  class Acceptor;
  struct SocketFile;

  explicit Listener(std::unique_ptr<SocketFile> file);
  void Start(std::vector<FileDescriptor> sockets, const Options& options, LoopGroup& loops,
             const std::shared_ptr<Handler>& handler);

  SocketAddress address_;
  // The file of a Unix socket; null without one.
  const std::unique_ptr<SocketFile> file_;
  // The loops that connections are handed over to; null if each loop has a socket of its own.
  LoopGroup* spread_ = nullptr;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_LISTENER_H_
