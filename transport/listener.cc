#include "ferry/transport/listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_stream.h"

namespace ferry::transport {
namespace {

// The loop's other work must not wait for longer than this many new connections take.
constexpr int kAcceptsPerBatch = 64;

bool SocketsAreEqual(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

absl::Status InUse(const SocketAddress& address, std::string_view why) {
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen on ", address.ToString(), ": ", std::string(why)));
}

// Makes way for a socket file at the path of `address`: removes one that no server listens on any more, or
// leaves it to be replaced if that is allowed.
absl::Status MakeWay(const SocketAddress& address, bool may_replace) {
  const std::string path = address.unix_path();
  struct stat found;
  if (path.empty() || lstat(path.c_str(), &found) != 0) return absl::OkStatus();
  if (!S_ISSOCK(found.st_mode)) return InUse(address, "the path exists and is not a socket");
  absl::StatusOr<bool> live = IsListenedOn(address);
  if (!live.ok()) return live.status();
  if (*live) return may_replace ? absl::OkStatus() : InUse(address, "another server listens there");
  struct stat now;
  if (lstat(path.c_str(), &now) == 0 && SocketsAreEqual(found, now)) unlink(path.c_str());
  return absl::OkStatus();
}

// Runs `task` on `loop` and waits for it.
void RunOn(EventLoop& loop, absl::FunctionRef<void()> task) {
  absl::Notification done;
  loop.Post([&] {
    task();
    done.Notify();
  });
  done.WaitForNotification();
}

// A socket bound to `address` and listening.
absl::StatusOr<FileDescriptor> OpenListening(const SocketAddress& address, const Listener::Options& options,
                                             bool share_port) {
  absl::StatusOr<FileDescriptor> socket = OpenSocket(address);
  if (!socket.ok()) return socket.status();
  absl::Status status = ApplyOptions(*socket, address, options.socket);
  if (address.is_tcp()) {
    // Connections of an earlier server that are still closing do not hold the port.
    status.Update(SetOption(*socket, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
    if (share_port) status.Update(SetOption(*socket, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT"));
  }
  if (status.ok()) status = Bind(*socket, address);
  if (status.ok()) status = Listen(*socket, options.backlog, address);
  if (!status.ok()) return status;
  return socket;
}

// A socket listening at the path of `address` in the place of another, which keeps the connections it has.
absl::StatusOr<FileDescriptor> OpenReplacing(const SocketAddress& address, const Listener::Options& options) {
  const std::string path = address.unix_path();
  const std::string temporary = absl::StrCat(path, ".", getpid());
  if (temporary.size() > SocketAddress::kMaxUnixPath) {
    return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", address.ToString(), ": ", temporary,
                                                   " is ", temporary.size(), " bytes, limit is ",
                                                   SocketAddress::kMaxUnixPath));
  }
  unlink(temporary.c_str());
  absl::StatusOr<FileDescriptor> socket =
      OpenListening(SocketAddress::UnixPath(temporary), options, /*share_port=*/false);
  if (!socket.ok()) return socket;
  // At every moment there is one of the two.
  if (rename(temporary.c_str(), path.c_str()) == 0) return socket;
  absl::Status failed = LastError(absl::StrCat("cannot listen on ", address.ToString(), ": rename"));
  unlink(temporary.c_str());
  return failed;
}

// Listening sockets for one address: one for each of `count` loops on TCP, otherwise one.
absl::StatusOr<std::vector<FileDescriptor>> OpenAll(SocketAddress address, const Listener::Options& options,
                                                    size_t count) {
  std::vector<FileDescriptor> sockets;
  // With SO_REUSEPORT on it, the first bind would succeed beside another server of the same user. Whether the
  // port is free shows without; the option is then set on the bound socket, for the others'.
  const bool replaces = options.reuse_port && !address.unix_path().empty();
  absl::StatusOr<FileDescriptor> first =
      replaces ? OpenReplacing(address, options) : OpenListening(address, options, options.reuse_port);
  if (!first.ok()) return first.status();
  absl::StatusOr<SocketAddress> bound = LocalAddress(*first);
  if (!bound.ok()) return bound.status();
  sockets.push_back(*std::move(first));
  if (!address.is_tcp() || count == 1) return sockets;
  if (!options.reuse_port) {
    absl::Status shared = SetOption(sockets.front(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    if (!shared.ok()) return shared;
  }
  while (sockets.size() < count) {
    absl::StatusOr<FileDescriptor> next = OpenListening(*bound, options, true);
    if (!next.ok()) return next.status();
    sockets.push_back(*std::move(next));
  }
  return sockets;
}

}  // namespace

// A SocketFile is the file of a Unix socket that this listener has made.
struct Listener::SocketFile {
  explicit SocketFile(std::string p) : path(std::move(p)) {
    if (lstat(path.c_str(), &made) != 0) path.clear();
  }
  ~SocketFile() {
    struct stat now;
    if (!path.empty() && lstat(path.c_str(), &now) == 0 && SocketsAreEqual(made, now)) unlink(path.c_str());
  }

  std::string path;
  struct stat made = {};
};

// An Acceptor is one listening socket on one loop. Belongs to that loop, once it is started.
class Listener::Acceptor final : private EventLoop::Handler {
 public:
  // Streams go to `loop`, or to the loops of `spread` in turn if that is not null.
  Acceptor(FileDescriptor socket, const SocketAddress& address, const Options& options, EventLoop& loop,
           LoopGroup* spread, std::shared_ptr<Listener::Handler> handler)
      : options_(options),
        address_(address),
        loop_(loop),
        spread_(spread),
        handler_(std::move(handler)),
        socket_(std::move(socket)),
        timer_([this] { Accept(); }) {}

  void Start() {
    loop_.AssertInLoop();
    absl::Status watching = loop_.Watch(socket_, EPOLLIN | EPOLLET, *this);
    if (!watching.ok())
      return handler_->OnProblem(
          absl::StrCat("cannot accept on ", address_.ToString(), ": ", watching.message()));
    watched_ = true;
    // Those who came before.
    Accept();
  }

  void Stop() {
    loop_.AssertInLoop();
    loop_.timers().Cancel(timer_);
    // Nobody who has connected is let down. A Unix socket can first be closed for others; a TCP port cannot,
    // but not for ever.
    if (address_.is_unix()) shutdown(socket_.get(), SHUT_RD);
    for (int i = 0; i < options_.backlog && AcceptOne(); ++i) {
    }
    loop_.timers().Cancel(timer_);
    if (std::exchange(watched_, false)) loop_.Unwatch(socket_, *this);
    socket_.Close();
  }

  EventLoop& loop() const { return loop_; }

 private:
  void OnEvents(uint32_t) override {
    if (!timer_.armed()) Accept();
  }

  void Accept() {
    for (int i = 0; i < kAcceptsPerBatch; ++i) {
      if (!AcceptOne()) return;
    }
    // There may be more, of which no event will tell.
    loop_.timers().Arm(timer_, loop_.now());
  }

  // Whether there may be more.
  bool AcceptOne() {
    AcceptResult result = transport::Accept(socket_, address_);
    switch (result.state) {
      case AcceptResult::State::kNone:
        paused_ = false;
        return false;
      case AcceptResult::State::kTryNext:
        return true;
      case AcceptResult::State::kOutOfResources:
        Pause(result.status);
        return false;
      case AcceptResult::State::kAccepted:
        paused_ = false;
        HandOver(std::move(result.socket), result.peer);
    }
    return true;
  }

  void Pause(const absl::Status& why) {
    if (!std::exchange(paused_, true)) {
      handler_->OnProblem(absl::StrCat("accepting on ", address_.ToString(), " pauses: ", why.message()));
    }
    loop_.timers().Arm(timer_, loop_.now() + options_.pause);
  }

  void HandOver(FileDescriptor socket, const SocketAddress& peer) {
    // Linux hands the listening socket's options down; a peer that is gone already shows when it is read.
    auto stream = std::make_unique<SocketStream>(std::move(socket), peer);
    EventLoop& loop = spread_ == nullptr ? loop_ : spread_->Next();
    if (&loop == &loop_) return handler_->OnAccepted(std::move(stream), loop);
    loop.Post([handler = handler_, stream = std::move(stream), &loop]() mutable {
      handler->OnAccepted(std::move(stream), loop);
    });
  }

  const Options options_;
  const SocketAddress address_;
  EventLoop& loop_;
  LoopGroup* const spread_;
  const std::shared_ptr<Listener::Handler> handler_;
  FileDescriptor socket_;
  bool watched_ = false;
  // Out of resources since the last connection that was accepted.
  bool paused_ = false;
  Timer timer_;
};

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(const Address& address, const Options& options,
                                                           LoopGroup& loops,
                                                           const std::shared_ptr<Handler>& handler) {
  absl::StatusOr<std::vector<SocketAddress>> resolved = Resolve(address);
  if (!resolved.ok()) return resolved.status();
  const SocketAddress& where = resolved->front();
  if (absl::Status free = MakeWay(where, options.reuse_port); !free.ok()) return free;
  absl::StatusOr<std::vector<FileDescriptor>> sockets = OpenAll(where, options, loops.size());
  if (!sockets.ok()) return sockets.status();
  std::unique_ptr<SocketFile> file;
  if (!where.unix_path().empty()) file = std::make_unique<SocketFile>(where.unix_path());
  std::unique_ptr<Listener> listener(new Listener(std::move(file)));
  // One that has replaced another was bound to another path.
  absl::StatusOr<SocketAddress> bound = where.unix_path().empty() ? LocalAddress(sockets->front()) : where;
  if (!bound.ok()) return bound.status();
  listener->address_ = *bound;
  listener->Start(*std::move(sockets), options, loops, handler);
  return listener;
}

Listener::Listener(std::unique_ptr<SocketFile> file) : file_(std::move(file)) {}

void Listener::Start(std::vector<FileDescriptor> sockets, const Options& options, LoopGroup& loops,
                     const std::shared_ptr<Handler>& handler) {
  if (sockets.size() < loops.size()) spread_ = &loops;
  for (size_t i = 0; i < sockets.size(); ++i) {
    acceptors_.push_back(std::make_unique<Acceptor>(std::move(sockets[i]), address_, options, loops.loop(i),
                                                    spread_, handler));
    Acceptor& acceptor = *acceptors_.back();
    acceptor.loop().Post([&acceptor] { acceptor.Start(); });
  }
}

Listener::~Listener() {
  for (const std::unique_ptr<Acceptor>& acceptor : acceptors_) {
    RunOn(acceptor->loop(), [&] { acceptor->Stop(); });
  }
  // What was handed over to other loops lies before this in their queues.
  if (spread_ == nullptr) return;
  for (size_t i = 0; i < spread_->size(); ++i) RunOn(spread_->loop(i), [] {});
}

std::string Listener::address() const { return address_.ToString(); }

}  // namespace ferry::transport
