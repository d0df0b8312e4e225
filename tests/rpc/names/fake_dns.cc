#include "tests/rpc/names/fake_dns.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/check.h"

namespace ferry::test {
namespace {

constexpr size_t kHeaderBytes = 12;
// A pointer to the name in the question, which comes first.
constexpr std::string_view kPointerToQuestion("\xc0\x0c", 2);

uint16_t U16At(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[at]) << 8 | static_cast<uint8_t>(bytes[at + 1]));
}

DnsQuestion Parse(std::string_view message) {
  DnsQuestion question;
  question.id = U16At(message, 0);
  size_t at = kHeaderBytes;
  while (message[at] != 0) {
    const size_t size = static_cast<uint8_t>(message[at]);
    absl::StrAppend(&question.name, question.name.empty() ? "" : ".",
                    std::string(message.substr(at + 1, size)));
    at += size + 1;
  }
  question.type = U16At(message, at + 1);
  question.bytes = std::string(message.substr(kHeaderBytes, at + 5 - kHeaderBytes));
  return question;
}

}  // namespace

std::string DnsU16(uint32_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }

std::string DnsU32(uint32_t value) { return DnsU16(value >> 16) + DnsU16(value & 0xffff); }

std::string DnsLabels(std::string_view name) {
  std::string bytes;
  if (!name.empty()) {
    for (const absl::string_view label : absl::StrSplit(absl::string_view(name.data(), name.size()), '.')) {
      bytes.push_back(static_cast<char>(label.size()));
      bytes.append(label.data(), label.size());
    }
  }
  bytes.push_back('\0');
  return bytes;
}

std::string DnsRecord(uint16_t type, uint32_t ttl, std::string_view data) {
  return std::string(kPointerToQuestion) + DnsU16(type) + DnsU16(1) + DnsU32(ttl) +
         DnsU16(static_cast<uint32_t>(data.size())) + std::string(data);
}

std::string DnsSrvData(uint16_t priority, uint16_t weight, uint16_t port, std::string_view target) {
  return DnsU16(priority) + DnsU16(weight) + DnsU16(port) + DnsLabels(target);
}

std::string DnsReply::For(const DnsQuestion& question) const {
  // A response, recursion desired and available.
  const uint32_t flags = 0x8180u | (truncated ? 0x0200u : 0u) | static_cast<uint32_t>(code);
  return DnsU16(question.id) + DnsU16(flags) + DnsU16(1) + DnsU16(static_cast<uint32_t>(answers)) +
         DnsU16(authorities.empty() ? 0 : 1) + DnsU16(0) + question.bytes + records + authorities;
}

FakeDns::FakeDns(Answer answer)
    : answer_(std::move(answer)), socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const bool bound =
      bind(socket_.get(), generic, size) == 0 && getsockname(socket_.get(), generic, &size) == 0;
  FERRY_CHECK(bound, "cannot bind a port of 127.0.0.1");
  port_ = ntohs(address.sin_port);
}

void FakeDns::Serve() {
  for (;;) {
    char message[512];
    sockaddr_in from = {};
    socklen_t from_size = sizeof from;
    auto* const peer = reinterpret_cast<sockaddr*>(&from);
    const ssize_t size = recvfrom(socket_.get(), message, sizeof message, MSG_DONTWAIT, peer, &from_size);
    if (size < 0) return;
    ++asked_;
    const std::string reply = answer_(Parse({message, static_cast<size_t>(size)}));
    if (!reply.empty()) sendto(socket_.get(), reply.data(), reply.size(), 0, peer, from_size);
  }
}

std::string FakeDns::address() const { return absl::StrCat("127.0.0.1:", port_); }

}  // namespace ferry::test
