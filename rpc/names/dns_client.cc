#include "ferry/rpc/names/dns_client.h"

#include <ares.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ferry/transport/socket_address.h"

namespace ferry {
namespace {

constexpr int kClassInternet = 1;
// c-ares' clock and the loop's may differ by their rounding: a wait that ends early is followed by another.
constexpr absl::Duration kShortestWait = absl::Milliseconds(1);

absl::Status AresError(int status) { return absl::UnavailableError(ares_strerror(status)); }

// Once a process; it is never undone, as threads may use c-ares until the process ends.
int InitLibrary() {
  static const int status = ares_library_init(ARES_LIB_INIT_ALL);
  return status;
}

DnsClient::Result ToResult(int status, DnsType type, absl::Span<const uint8_t> message) {
  absl::StatusOr<DnsAnswer> answer =
      status == ARES_SUCCESS ? ParseDnsAnswer(message, type) : AresError(status);
  // An alias of a name without such records is an answer to c-ares (RFC 2308, section 2.2).
  const bool negative =
      absl::IsNotFound(answer.status()) || status == ARES_ENOTFOUND || status == ARES_ENODATA;
  return {.answer = std::move(answer),
          .negative = negative,
          .negative_ttl = negative ? ParseNegativeTtl(message) : std::nullopt};
}

}  // namespace

// A Socket is one of c-ares' as the loop watches it: a descriptor of our own for the same socket, since
// c-ares closes its.
class DnsClient::Socket final : private transport::EventLoop::Handler {
 public:
  Socket(DnsClient& client, int fd) : client_(client), fd_(fd), watched_fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {}
  ~Socket() override {
    if (watched_) client_.loop_.Unwatch(watched_fd_, *this);
  }

  // One that cannot be watched is never answered: c-ares gives up in the end.
  void Watch(uint32_t events) {
    if (watched_) return client_.loop_.ChangeWatch(watched_fd_, events, *this);
    watched_ = watched_fd_.open() && client_.loop_.Watch(watched_fd_, events, *this).ok();
  }

 private:
  // May destroy this.
  void OnEvents(uint32_t events) override {
    const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    client_.Process(broken || (events & EPOLLIN) != 0 ? fd_ : ARES_SOCKET_BAD,
                    broken || (events & EPOLLOUT) != 0 ? fd_ : ARES_SOCKET_BAD);
  }

  DnsClient& client_;
  const int fd_;  // c-ares' own
  const transport::FileDescriptor watched_fd_;
  bool watched_ = false;
};

absl::StatusOr<std::unique_ptr<DnsClient>> DnsClient::Create(const Options& options,
                                                             transport::EventLoop& loop) {
  loop.AssertInLoop();
  std::unique_ptr<DnsClient> client(new DnsClient(options, loop));
  if (absl::Status ready = client->Init(options); !ready.ok()) return ready;
  return client;
}

DnsClient::DnsClient(const Options& options, transport::EventLoop& loop)
    : loop_(loop),
      search_(options.search),
      tell_timer_([this] { TellNext(); }),
      timeout_timer_([this] { Process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }) {}

DnsClient::~DnsClient() {
  loop_.AssertInLoop();
  loop_.timers().Cancel(tell_timer_);
  loop_.timers().Cancel(timeout_timer_);
  // Answers every question that is left, and closes every socket.
  if (channel_ != nullptr) ares_destroy(channel_);
}

absl::Status DnsClient::Init(const Options& options) {
  if (const int status = InitLibrary(); status != ARES_SUCCESS) return AresError(status);
  ares_options wanted = {};
  wanted.timeout = static_cast<int>(std::max<int64_t>(absl::ToInt64Milliseconds(options.attempt_timeout), 1));
  wanted.tries = options.attempts;
  wanted.sock_state_cb = &OnSocketState;
  wanted.sock_state_cb_data = this;
  int status =
      ares_init_options(&channel_, &wanted, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
  if (status != ARES_SUCCESS) {
    channel_ = nullptr;
    return AresError(status);
  }
  if (options.servers.empty()) return absl::OkStatus();
  const std::string servers = absl::StrJoin(options.servers, ",");
  status = ares_set_servers_ports_csv(channel_, servers.c_str());
  if (status == ARES_SUCCESS) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("DNS servers \"", servers, "\": ", ares_strerror(status)));
}

void DnsClient::Query(const std::string& name, DnsType type, Callback done) {
  loop_.AssertInLoop();
  const auto question = asked_.insert(asked_.end(), {.client = this, .type = type, .done = std::move(done)});
  question->self = question;
  const auto ask = search_ ? &ares_search : &ares_query;
  ask(channel_, name.c_str(), kClassInternet, static_cast<int>(type), &OnAnswer, &*question);
  ArmTimeout();
}

void DnsClient::OnAnswer(void* question, int status, int, unsigned char* message, int size) {
  const auto self = static_cast<Question*>(question)->self;
  if (status == ARES_EDESTRUCTION) return;
  const absl::Span<const uint8_t> bytes(message, message == nullptr ? 0 : static_cast<size_t>(size));
  self->client->Finish(self, ToResult(status, self->type, bytes));
}

void DnsClient::Finish(std::list<Question>::iterator question, Result result) {
  finished_.push_back({.result = std::move(result), .done = std::move(question->done)});
  asked_.erase(question);
  loop_.timers().Arm(tell_timer_, loop_.now());
}

void DnsClient::TellNext() {
  Finished next = std::move(finished_.front());
  finished_.pop_front();
  if (!finished_.empty()) loop_.timers().Arm(tell_timer_, loop_.now());
  std::move(next.done)(std::move(next.result));
}

void DnsClient::OnSocketState(void* client, int fd, int readable, int writable) {
  static_cast<DnsClient*>(client)->SetSocket(fd, readable != 0, writable != 0);
}

void DnsClient::SetSocket(int fd, bool readable, bool writable) {
  if (!readable && !writable) {
    sockets_.erase(fd);
    return;
  }
  std::unique_ptr<Socket>& socket = sockets_[fd];
  if (socket == nullptr) socket = std::make_unique<Socket>(*this, fd);
  socket->Watch((readable ? uint32_t{EPOLLIN} : 0u) | (writable ? uint32_t{EPOLLOUT} : 0u));
}

void DnsClient::Process(int readable, int writable) {
  ares_process_fd(channel_, readable, writable);
  ArmTimeout();
}

void DnsClient::ArmTimeout() {
  timeval time;
  if (ares_timeout(channel_, nullptr, &time) == nullptr) return loop_.timers().Cancel(timeout_timer_);
  loop_.timers().Arm(timeout_timer_, loop_.now() + std::max(absl::DurationFromTimeval(time), kShortestWait));
}

std::string DnsClient::servers() const {
  std::string text;
  ares_addr_port_node* nodes = nullptr;
  if (ares_get_servers_ports(channel_, &nodes) != ARES_SUCCESS) return text;
  for (const ares_addr_port_node* node = nodes; node != nullptr; node = node->next) {
    sockaddr_in6 v6 = {};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, &node->addr.addr6, sizeof v6.sin6_addr);
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, &node->addr.addr4, sizeof v4.sin_addr);
    transport::SocketAddress address =
        node->family == AF_INET6
            ? transport::SocketAddress(reinterpret_cast<const sockaddr*>(&v6), sizeof v6)
            : transport::SocketAddress(reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
    address.set_port(node->udp_port == 0 ? 53 : static_cast<uint16_t>(node->udp_port));
    absl::StrAppend(&text, text.empty() ? "" : ", ", address.ToString());
  }
  ares_free_data(nodes);
  return text;
}

absl::Status DnsClient::NoAnswer() { return AresError(ARES_ETIMEOUT); }

}  // namespace ferry
