#include "ferry/transport/connector.h"

#include <sys/epoll.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/error_number.h"
#include "ferry/transport/memory_stream.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_stream.h"

namespace ferry::transport {
namespace {

// How soon to try a Unix socket again whose listener's queue is full: nobody tells when it has room.
constexpr absl::Duration kQueueFullPause = absl::Milliseconds(1);

// A Try is one socket on its way to one address.
//
// Belongs to its loop.
class Try final : private EventLoop::Handler {
 public:
  // Told once of how it ended, perhaps inside Start; may destroy the try.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnConnected(std::unique_ptr<ByteStream> stream) = 0;
    virtual void OnFailed(const Try& failed, const absl::Status& why) = 0;
  };

  Try(EventLoop& loop, const SocketAddress& address, Owner& owner)
      : loop_(loop), address_(address), owner_(owner), retry_timer_([this] { Connect(); }) {}
  ~Try() override { Stop(); }

  void Start(const SocketOptions& options) {
    absl::StatusOr<FileDescriptor> socket = OpenSocket(address_);
    if (!socket.ok()) return Failed(socket.status());
    socket_ = *std::move(socket);
    if (absl::Status set = ApplyOptions(socket_, address_, options); !set.ok()) return Failed(set);
    Connect();
  }

  const SocketAddress& address() const { return address_; }

 private:
  void Connect() {
    absl::StatusOr<ConnectState> started = StartConnect(socket_, address_);
    if (!started.ok()) return Failed(started.status());
    switch (*started) {
      case ConnectState::kConnected:
        return Connected();
      case ConnectState::kQueueFull:
        return loop_.timers().Arm(retry_timer_, loop_.now() + kQueueFullPause);
      case ConnectState::kInProgress:
        break;
    }
    absl::Status watching = loop_.Watch(socket_, EPOLLOUT | EPOLLET, *this);
    if (!watching.ok()) return Failed(watching);
    watched_ = true;
  }

  void OnEvents(uint32_t) override {
    absl::Status connected = FinishConnect(socket_, address_);
    if (!connected.ok()) return Failed(connected);
    Connected();
  }

  void Connected() {
    Stop();
    owner_.OnConnected(std::make_unique<SocketStream>(std::move(socket_), address_));
  }

  void Failed(const absl::Status& why) {
    Stop();
    owner_.OnFailed(*this, why);
  }

  void Stop() {
    loop_.timers().Cancel(retry_timer_);
    if (std::exchange(watched_, false)) loop_.Unwatch(socket_, *this);
  }

  EventLoop& loop_;
  const SocketAddress& address_;
  Owner& owner_;
  FileDescriptor socket_;
  bool watched_ = false;
  Timer retry_timer_;
};

class SocketAttempt final : public Connector::Attempt, private Try::Owner {
 public:
  SocketAttempt(EventLoop& loop, const std::vector<SocketAddress>& addresses, const SocketOptions& options,
                absl::Duration delay, Connector::Callback done)
      : loop_(loop),
        addresses_(addresses),
        options_(options),
        delay_(delay),
        done_(std::move(done)),
        next_timer_([this] { TryNext(); }),
        deadline_timer_([this] { GiveUp(); }) {}

  ~SocketAttempt() override { Abandon(); }

  void Start(Instant deadline) {
    // So that `done` does not run inside Connect.
    loop_.timers().Arm(next_timer_, loop_.now());
    if (deadline != Instant::Infinite()) loop_.timers().Arm(deadline_timer_, deadline);
  }

 private:
  void TryNext() {
    Try& next =
        *tries_.emplace_back(std::make_unique<Try>(loop_, addresses_[next_++], static_cast<Owner&>(*this)));
    // A try that fails at once arms the timer anew, for now.
    if (next_ < addresses_.size() && delay_ != absl::InfiniteDuration())
      loop_.timers().Arm(next_timer_, loop_.now() + delay_);
    next.Start(options_);
  }

  void OnConnected(std::unique_ptr<ByteStream> stream) override { End(std::move(stream)); }

  void OnFailed(const Try& failed, const absl::Status& why) override {
    AddProblem(why.message());
    if (const int error = ErrorNumberOf(why); error != 0) last_error_number_ = error;
    std::erase_if(tries_, [&](const std::unique_ptr<Try>& t) { return t.get() == &failed; });
    if (next_ < addresses_.size()) return loop_.timers().Arm(next_timer_, loop_.now());
    if (tries_.empty()) End(Problems());
  }

  void GiveUp() {
    for (const std::unique_ptr<Try>& t : tries_)
      AddProblem(absl::StrCat("cannot connect to ", t->address().ToString(), ": no answer in time"));
    for (; next_ < addresses_.size(); ++next_)
      AddProblem(absl::StrCat("no time was left for ", addresses_[next_].ToString()));
    End(Problems());
  }

  absl::Status Problems() const {
    return WithErrorNumber(absl::UnavailableError(absl::StrCat("cannot connect: ", problems_)),
                           last_error_number_);
  }

  void AddProblem(absl::string_view problem) {
    absl::StrAppend(&problems_, problems_.empty() ? "" : "; ", problem);
  }

  void End(absl::StatusOr<std::unique_ptr<ByteStream>> result) {
    Abandon();
    Connector::Callback done = std::move(done_);
    std::move(done)(std::move(result));
  }

  void Abandon() {
    loop_.timers().Cancel(next_timer_);
    loop_.timers().Cancel(deadline_timer_);
    tries_.clear();
  }

  EventLoop& loop_;
  const std::vector<SocketAddress> addresses_;
  const SocketOptions options_;
  const absl::Duration delay_;
  Connector::Callback done_;
  size_t next_ = 0;  // the first address that was not tried yet
  std::vector<std::unique_ptr<Try>> tries_;
  std::string problems_;
  int last_error_number_ = 0;
  Timer next_timer_;
  Timer deadline_timer_;
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

std::vector<SocketAddress> InterleaveFamilies(const std::vector<SocketAddress>& addresses) {
  std::vector<std::vector<SocketAddress>> families;
  for (const SocketAddress& address : addresses) {
    const auto family = std::find_if(families.begin(), families.end(), [&](const auto& members) {
      return members.front().family() == address.family();
    });
    if (family == families.end()) {
      families.push_back({address});
    } else {
      family->push_back(address);
    }
  }
  std::vector<SocketAddress> interleaved;
  interleaved.reserve(addresses.size());
  for (size_t i = 0; interleaved.size() < addresses.size(); ++i) {
    for (const std::vector<SocketAddress>& family : families) {
      if (i < family.size()) interleaved.push_back(family[i]);
    }
  }
  return interleaved;
}

std::unique_ptr<Connector::Attempt> SocketConnector::Connect(EventLoop& loop, Instant deadline,
                                                             Callback done) {
  loop.AssertInLoop();
  auto attempt = std::make_unique<SocketAttempt>(loop, addresses_, options_, attempt_delay_, std::move(done));
  attempt->Start(deadline);
  return attempt;
}

std::unique_ptr<Connector::Attempt> MemoryConnector::Connect(EventLoop& loop, Instant, Callback done) {
  loop.AssertInLoop();
  return std::make_unique<MemoryAttempt>(loop, accept_, std::move(done));
}

}  // namespace ferry::transport
