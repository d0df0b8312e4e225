#include "tests/testing/dns_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/posix.h"

namespace ferry::test {
namespace {

constexpr const char* kProgram = "/usr/sbin/dnsmasq";
constexpr int kTries = 20;
// How long to wait for an answer, or for the process to end, before asking again.
constexpr int kPatienceMillis = 20;

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool BindTo(const transport::FileDescriptor& socket, uint16_t port) {
  const sockaddr_in address = Loopback(port);
  return bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// A port that nobody has just now, neither by TCP nor by UDP; 0 if it was not to be had.
uint16_t FreePort() {
  const transport::FileDescriptor udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const transport::FileDescriptor tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  socklen_t size = sizeof address;
  if (!BindTo(tcp, 0) || getsockname(tcp.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  const uint16_t port = ntohs(address.sin_port);
  return BindTo(udp, port) ? port : 0;
}

// A query for the A records of `name`: RFC 1035, section 4.1.
std::string QueryFor(const std::string& name) {
  std::string query("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
  for (const absl::string_view label : absl::StrSplit(name, '.')) {
    query.push_back(static_cast<char>(label.size()));
    query.append(label.data(), label.size());
  }
  query.append("\0\0\x01\0\x01", 5);
  return query;
}

}  // namespace

DnsServer::DnsServer(const std::vector<std::string>& records) {
  for (int i = 0; i < kTries; ++i) {
    port_ = FreePort();
    if (port_ != 0 && TryStart(records)) return;
  }
  Die("found no port");
}

DnsServer::~DnsServer() { Stop(); }

void DnsServer::Serve(const std::vector<std::string>& records) {
  Stop();
  if (!TryStart(records)) Die("lost its port");
}

std::string DnsServer::address() const { return absl::StrCat("127.0.0.1:", port_); }

bool DnsServer::TryStart(const std::vector<std::string>& records) {
  // Only this process knows this name: another's server on the same port does not pass for it.
  const std::string ready = absl::StrCat("ready-", getpid(), ".test");
  const std::string config = directory_.path() + "/dnsmasq.conf";
  const std::string log = directory_.path() + "/log";
  std::ofstream out(config);
  out << "port=" << port_ << "\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\n"
      << "cache-size=0\nlocal=/test/\nhost-record=" << ready << ",127.0.0.1\n";
  for (const std::string& record : records) out << record << "\n";
  out.close();
  const std::string config_flag = "--conf-file=" + config;
  const pid_t parent = getpid();
  process_ = fork();
  if (process_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    const int output = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    // "No daemon" also has it keep its user, for which it would need rights that a sandbox does not give.
    execl(kProgram, kProgram, "--no-daemon", config_flag.c_str(), nullptr);
    _exit(127);
  }
  if (process_ < 0) Die("cannot fork");
  if (AwaitReady(ready)) return true;
  Stop();
  return false;
}

bool DnsServer::AwaitReady(const std::string& name) const {
  const std::string query = QueryFor(name);
  while (!ended()) {
    const transport::FileDescriptor udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in server = Loopback(port_);
    if (connect(udp.get(), reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) return false;
    send(udp.get(), query.data(), query.size(), 0);
    pollfd answered = {.fd = udp.get(), .events = POLLIN, .revents = 0};
    poll(&answered, 1, kPatienceMillis);
    char reply[512];
    const ssize_t size = recv(udp.get(), reply, sizeof reply, MSG_DONTWAIT);
    // One answer and no error: RFC 1035, section 4.1.1.
    if (size > 12 && (reply[3] & 0xf) == 0 && reply[7] == 1) return true;
    // Nobody listens yet: that is told at once, and would be asked again and again.
    if (size < 0 && (answered.revents & POLLERR) != 0) poll(nullptr, 0, kPatienceMillis);
  }
  return false;
}

bool DnsServer::ended() const {
  siginfo_t state = {};
  return waitid(P_PID, static_cast<id_t>(process_), &state, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         state.si_pid != 0;
}

void DnsServer::Stop() {
  kill(process_, SIGTERM);
  waitpid(process_, nullptr, 0);
}

void DnsServer::Die(const std::string& what) const {
  std::stringstream said;
  said << std::ifstream(directory_.path() + "/log").rdbuf();
  std::cerr << kProgram << " (of Debian's dnsmasq-base) " << what << "; it said: " << said.str() << std::endl;
  std::abort();
}

}  // namespace ferry::test
