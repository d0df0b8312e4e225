#include "ferry/tests/testing/fault_proxy.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/address.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/timer_queue.h"
#include "tests/testing/proxied_connection.h"

namespace ferry::test {

using transport::AcceptResult;
using transport::EventLoop;
using transport::FileDescriptor;
using transport::SocketAddress;

namespace {

constexpr int kBacklog = 1024;

absl::StatusOr<SocketAddress> FirstAddress(std::string_view text) {
  absl::StatusOr<transport::Address> parsed = transport::Address::Parse(text);
  if (!parsed.ok()) return parsed.status();
  absl::StatusOr<std::vector<SocketAddress>> resolved = Resolve(*parsed);
  if (!resolved.ok()) return resolved.status();
  return resolved->front();
}

// A socket bound to `address`, beside others that are.
absl::StatusOr<FileDescriptor> OpenBound(const SocketAddress& address) {
  absl::StatusOr<FileDescriptor> socket = transport::OpenSocket(address);
  if (!socket.ok()) return socket;
  absl::Status status;
  if (address.is_tcp()) status = SetOption(*socket, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (!address.unix_path().empty()) unlink(address.unix_path().c_str());
  status.Update(Bind(*socket, address));
  if (!status.ok()) return status;
  return socket;
}

}  // namespace

// A Core is what of a proxy belongs to its loop.
class FaultProxy::Core final : public EventLoop::Handler {
 public:
  Core(std::unique_ptr<transport::LoopGroup> loops, const SocketAddress& upstream, const Options& options)
      : loops_(std::move(loops)),
        shared_{.loop = loops_->loop(0), .upstream = upstream, .buffer_bytes = options.buffer_bytes} {}
  ~Core() override;

  // Runs `task` on the loop and waits for it.
  void RunOnLoop(absl::FunctionRef<void()> task);

  const std::string& address() const { return address_text_; }

  // The rest is called on the loop.
  absl::Status Start(const SocketAddress& address);
  absl::Status SetFaults(const Faults& faults);
  void ResetConnections();
  void ResetNext(int count) { reset_next_ += count; }
  const Counters& counters() const { return shared_.counters; }

 private:
  void OnEvents(uint32_t events) override;
  absl::Status Listen();
  void StopListening();
  absl::Status FillQueue();
  void AcceptAll();
  void OnAccepted(AcceptResult accepted);

  const std::unique_ptr<transport::LoopGroup> loops_;
  ProxyShared shared_;
  SocketAddress address_;
  std::string address_text_;
  // Keeps the port while nothing listens; not open for Unix sockets.
  FileDescriptor reserved_;
  FileDescriptor listening_;
  // What fills the queue of connections to be accepted, so that others hang; and its address.
  FileDescriptor filler_;
  std::string filler_address_;
  int reset_next_ = 0;
  // By their number.
  absl::flat_hash_map<uint64_t, std::unique_ptr<ProxiedConnection>> connections_;
  transport::Timer accept_again_{[this] { AcceptAll(); }};
};

FaultProxy::Core::~Core() {
  RunOnLoop([this] {
    StopListening();
    shared_.loop.timers().Cancel(accept_again_);
    connections_.clear();
  });
  loops_->Stop();
  if (!address_.unix_path().empty()) unlink(address_.unix_path().c_str());
}

void FaultProxy::Core::RunOnLoop(absl::FunctionRef<void()> task) {
  absl::Notification done;
  shared_.loop.Post([task, &done] {
    task();
    done.Notify();
  });
  done.WaitForNotification();
}

absl::Status FaultProxy::Core::Start(const SocketAddress& address) {
  address_ = address;
  if (address.is_tcp()) {
    absl::StatusOr<FileDescriptor> reserved = OpenBound(address);
    if (!reserved.ok()) return reserved.status();
    absl::StatusOr<SocketAddress> bound = LocalAddress(*reserved);
    if (!bound.ok()) return bound.status();
    address_ = *bound;
    reserved_ = *std::move(reserved);
  }
  address_text_ = address_.ToString();
  return Listen();
}

absl::Status FaultProxy::Core::Listen() {
  absl::StatusOr<FileDescriptor> socket = OpenBound(address_);
  if (!socket.ok()) return socket.status();
  absl::Status status = transport::Listen(*socket, kBacklog, address_);
  status.Update(shared_.loop.Watch(*socket, EPOLLIN | EPOLLET, *this));
  if (!status.ok()) return status;
  listening_ = *std::move(socket);
  return absl::OkStatus();
}

void FaultProxy::Core::StopListening() {
  filler_.Close();
  if (!listening_.open()) return;
  shared_.loop.Unwatch(listening_, *this);
  listening_.Close();
}

absl::Status FaultProxy::Core::SetFaults(const Faults& faults) {
  AcceptAll();
  shared_.faults = faults;
  absl::Status status;
  if (faults.new_connections == NewConnections::kRefuse) {
    StopListening();
  } else {
    if (!listening_.open()) status = Listen();
    if (status.ok() && faults.new_connections == NewConnections::kHang) {
      if (!filler_.open()) status = FillQueue();
    } else if (filler_.open()) {
      filler_.Close();
      status.Update(transport::Listen(listening_, kBacklog, address_));
      AcceptAll();
    }
  }
  for (const auto& [id, connection] : connections_) connection->Begin();
  return status;
}

// With a backlog of 0 one connection may wait; the kernel drops what asks for another.
absl::Status FaultProxy::Core::FillQueue() {
  constexpr int kMostMillis = 100;
  if (absl::Status status = transport::Listen(listening_, 0, address_); !status.ok()) return status;
  absl::StatusOr<FileDescriptor> filler = transport::OpenSocket(address_);
  if (!filler.ok()) return filler.status();
  // A name by which to know it again: the kernel chooses one.
  const sockaddr unnamed = {.sa_family = AF_UNIX, .sa_data = {}};
  if (address_.is_unix()) {
    absl::Status bound = Bind(*filler, SocketAddress(&unnamed, sizeof unnamed.sa_family));
    if (!bound.ok()) return bound;
  }
  absl::StatusOr<transport::ConnectState> started = StartConnect(*filler, address_);
  if (!started.ok()) return started.status();
  // If it takes longer another has filled the queue.
  pollfd connected = {.fd = filler->get(), .events = POLLOUT, .revents = 0};
  poll(&connected, 1, kMostMillis);
  absl::StatusOr<SocketAddress> local = LocalAddress(*filler);
  if (!local.ok()) return local.status();
  filler_address_ = local->ToString();
  filler_ = *std::move(filler);
  return absl::OkStatus();
}

void FaultProxy::Core::ResetConnections() {
  shared_.counters.resets += connections_.size();
  for (const auto& [id, connection] : connections_) connection->Reset();
  connections_.clear();
}

void FaultProxy::Core::OnEvents(uint32_t /*events*/) { AcceptAll(); }

void FaultProxy::Core::AcceptAll() {
  while (listening_.open() && !filler_.open()) {
    AcceptResult accepted = Accept(listening_, address_);
    switch (accepted.state) {
      case AcceptResult::State::kAccepted:
        OnAccepted(std::move(accepted));
        break;
      case AcceptResult::State::kTryNext:
        break;
      case AcceptResult::State::kNone:
        return;
      case AcceptResult::State::kOutOfResources:
        shared_.loop.timers().Arm(accept_again_, shared_.loop.now() + absl::Milliseconds(10));
        return;
    }
  }
}

void FaultProxy::Core::OnAccepted(AcceptResult accepted) {
  if (!filler_address_.empty() && accepted.peer.ToString() == filler_address_) {
    filler_address_.clear();
    return;
  }
  ++shared_.counters.connections;
  if (reset_next_ > 0) {
    --reset_next_;
    ++shared_.counters.resets;
    return CloseWithReset(accepted.socket);
  }
  const uint64_t id = shared_.counters.connections;
  auto connection = std::make_unique<ProxiedConnection>(shared_, std::move(accepted.socket), accepted.peer,
                                                        [this, id] { connections_.erase(id); });
  connection->Begin();
  connections_.emplace(id, std::move(connection));
}

// ---------------------------------------------------------------- FaultProxy

absl::StatusOr<std::unique_ptr<FaultProxy>> FaultProxy::Create(std::string_view upstream,
                                                               const Options& options) {
  absl::StatusOr<SocketAddress> to = FirstAddress(upstream);
  if (!to.ok()) return to.status();
  absl::StatusOr<SocketAddress> at = FirstAddress(options.listen);
  if (!at.ok()) return at.status();
  absl::StatusOr<std::unique_ptr<transport::LoopGroup>> loops =
      transport::LoopGroup::Create({.threads = 1, .name = "fault-proxy", .clock = options.clock});
  if (!loops.ok()) return loops.status();
  auto core = std::make_unique<Core>(*std::move(loops), *to, options);
  absl::Status started;
  core->RunOnLoop([&] { started = core->Start(*at); });
  if (!started.ok()) return started;
  return std::unique_ptr<FaultProxy>(new FaultProxy(std::move(core)));
}

FaultProxy::FaultProxy(std::unique_ptr<Core> core) : core_(std::move(core)) {}

FaultProxy::~FaultProxy() = default;

const std::string& FaultProxy::address() const { return core_->address(); }

absl::Status FaultProxy::SetFaults(const Faults& faults) {
  absl::Status status;
  core_->RunOnLoop([&] { status = core_->SetFaults(faults); });
  return status;
}

void FaultProxy::ResetConnections() {
  core_->RunOnLoop([this] { core_->ResetConnections(); });
}

void FaultProxy::ResetNext(int count) {
  core_->RunOnLoop([this, count] { core_->ResetNext(count); });
}

FaultProxy::Counters FaultProxy::counters() const {
  Counters counters;
  core_->RunOnLoop([&] { counters = core_->counters(); });
  return counters;
}

void FaultProxy::Catchup() {
  // Timers have their turn before tasks: this ends one batch, and the next has a look at the clock first.
  for (int batches = 0; batches < 2; ++batches) core_->RunOnLoop([] {});
}

}  // namespace ferry::test
