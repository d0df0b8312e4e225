// A DNS server that answers what a test says, byte by byte.
#ifndef FERRY_TESTS_RPC_NAMES_FAKE_DNS_H_
#define FERRY_TESTS_RPC_NAMES_FAKE_DNS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "ferry/rpc/names/dns_message.h"
#include "ferry/transport/posix.h"

namespace ferry::test {

// The fields of a message as they stand on the wire: RFC 1035, section 4.1.
std::string DnsU16(uint32_t value);
std::string DnsU32(uint32_t value);
// "a.test" with lengths before its labels and 0 after them.
std::string DnsLabels(std::string_view name);
// A record whose owner is what the question asks for.
std::string DnsRecord(uint16_t type, uint32_t ttl, std::string_view data);
std::string DnsSrvData(uint16_t priority, uint16_t weight, uint16_t port, std::string_view target);

inline constexpr uint16_t kDnsCname = 5;
inline constexpr uint16_t kDnsSoa = 6;
inline constexpr int kDnsServerFailure = 2;
inline constexpr int kDnsNoSuchName = 3;

// A DnsQuestion is what a client has asked: a value.
struct DnsQuestion {
  uint16_t id = 0;
  std::string name;  // "a.test"
  uint16_t type = 0;
  std::string bytes;  // name, type and class, as they came

  bool is(DnsType wanted) const { return type == static_cast<uint16_t>(wanted); }
};

// A DnsReply is what may be answered, as numbers and records that need not go together.
struct DnsReply {
  int code = 0;
  bool truncated = false;
  int answers = 0;
  std::string records = {};      // `answers` of them
  std::string authorities = {};  // one record, or none

  std::string For(const DnsQuestion& question) const;
};

// A FakeDns takes questions by UDP, and answers when it is told to.
//
// Thread-compatible.
class FakeDns {
 public:
  // What to answer; empty: nothing.
  using Answer = std::function<std::string(const DnsQuestion& question)>;

  explicit FakeDns(Answer answer);

  // Answers all that has come.
  void Serve();
  // How many questions have come.
  int asked() const { return asked_; }
  // "127.0.0.1:5353".
  std::string address() const;

 private:
  const Answer answer_;
  transport::FileDescriptor socket_;
  uint16_t port_ = 0;
  int asked_ = 0;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_NAMES_FAKE_DNS_H_
