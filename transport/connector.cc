#include "ferry/transport/connector.h"

#include <sys/epoll.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/memory_stream.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_stream.h"

namespace ferry::transport {
namespace {

// How soon to try a Unix socket again whose listener's queue is full: nobody tells when it has room.
constexpr absl::Duration kQueueFullPause = absl::Milliseconds(1);

class SocketAttempt final : public Connector::Attempt, private EventLoop::Handler {
 public:
  SocketAttempt(EventLoop& loop, const std::vector<SocketAddress>& addresses, const SocketOptions& options,
                Instant deadline, Connector::Callback done)
      : loop_(loop),
        addresses_(addresses),
        options_(options),
        deadline_(deadline),
        done_(std::move(done)),
        timer_([this] { OnTimer(); }) {
    // So that `done` does not run inside Connect.
    loop_.timers().Arm(timer_, loop_.now());
  }

  ~SocketAttempt() override { Abandon(); }

 private:
  // Tries the next address, or ends.
  void TryNext() {
    if (next_ == addresses_.size())
      return End(absl::UnavailableError(absl::StrCat("cannot connect: ", problems_)));
    const absl::Duration left = deadline_ - loop_.now();
    give_up_ = loop_.now() + left / static_cast<int64_t>(addresses_.size() - next_);
    ++next_;
    absl::StatusOr<FileDescriptor> socket = OpenSocket(address());
    if (!socket.ok()) return Failed(socket.status());
    socket_ = *std::move(socket);
    if (absl::Status set = ApplyOptions(socket_, address(), options_); !set.ok()) return Failed(set);
    StartOne();
  }

  void StartOne() {
    absl::StatusOr<ConnectState> started = StartConnect(socket_, address());
    if (!started.ok()) return Failed(started.status());
    switch (*started) {
      case ConnectState::kConnected:
        return End(std::make_unique<SocketStream>(std::move(socket_), address()));
      case ConnectState::kQueueFull:
        retry_ = true;
        return loop_.timers().Arm(timer_, std::min(give_up_, loop_.now() + kQueueFullPause));
      case ConnectState::kInProgress:
        break;
    }
    absl::Status watching = loop_.Watch(socket_, EPOLLOUT | EPOLLET, *this);
    if (!watching.ok()) return Failed(watching);
    watched_ = true;
    loop_.timers().Arm(timer_, give_up_);
  }

  void OnEvents(uint32_t) override {
    StopWatching();
    absl::Status connected = FinishConnect(socket_, address());
    if (!connected.ok()) return Failed(connected);
    End(std::make_unique<SocketStream>(std::move(socket_), address()));
  }

  void OnTimer() {
    if (next_ == 0) return TryNext();
    if (std::exchange(retry_, false) && loop_.now() < give_up_) return StartOne();
    Failed(absl::DeadlineExceededError(
        absl::StrCat("cannot connect to ", address().ToString(), ": no answer in time")));
  }

  void Failed(const absl::Status& why) {
    Abandon();
    absl::StrAppend(&problems_, problems_.empty() ? "" : "; ", why.message());
    TryNext();
  }

  void End(absl::StatusOr<std::unique_ptr<ByteStream>> result) {
    Abandon();
    Connector::Callback done = std::move(done_);
    std::move(done)(std::move(result));
  }

  void Abandon() {
    loop_.timers().Cancel(timer_);
    StopWatching();
    socket_.Close();
  }

  void StopWatching() {
    if (std::exchange(watched_, false)) loop_.Unwatch(socket_, *this);
  }

  const SocketAddress& address() const { return addresses_[next_ - 1]; }

  EventLoop& loop_;
  const std::vector<SocketAddress> addresses_;
  const SocketOptions options_;
  const Instant deadline_;
  Connector::Callback done_;
  // The address being tried is the one before.
  size_t next_ = 0;
  Instant give_up_;
  FileDescriptor socket_;
  bool watched_ = false;
  bool retry_ = false;
  std::string problems_;
  Timer timer_;
};

class MemoryAttempt final : public Connector::Attempt {
 public:
  MemoryAttempt(EventLoop& loop, const MemoryConnector::Accept& accept, Connector::Callback done)
      : loop_(loop), accept_(accept), done_(std::move(done)), timer_([this] { Finish(); }) {
    loop_.timers().Arm(timer_, loop_.now());
  }
  ~MemoryAttempt() override { loop_.timers().Cancel(timer_); }

 private:
  void Finish() {
    MemoryStreamPair pair = MemoryStreamPair::Create();
    absl::StatusOr<std::unique_ptr<ByteStream>> result = std::move(pair.first);
    if (absl::Status accepted = accept_(std::move(pair.second)); !accepted.ok()) result = std::move(accepted);
    Connector::Callback done = std::move(done_);
    std::move(done)(std::move(result));
  }

  EventLoop& loop_;
  const MemoryConnector::Accept& accept_;
  Connector::Callback done_;
  Timer timer_;
};

}  // namespace

std::unique_ptr<Connector::Attempt> SocketConnector::Connect(EventLoop& loop, Instant deadline,
                                                             Callback done) {
  loop.AssertInLoop();
  return std::make_unique<SocketAttempt>(loop, addresses_, options_, deadline, std::move(done));
}

std::unique_ptr<Connector::Attempt> MemoryConnector::Connect(EventLoop& loop, Instant, Callback done) {
  loop.AssertInLoop();
  return std::make_unique<MemoryAttempt>(loop, accept_, std::move(done));
}

}  // namespace ferry::transport
