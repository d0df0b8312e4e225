// A real DNS server.
#ifndef FERRY_TESTS_TESTING_DNS_SERVER_H_
#define FERRY_TESTS_TESTING_DNS_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/testing/temporary_directory.h"

namespace ferry::test {

// A DnsServer is a dnsmasq of the test's own, on a port of 127.0.0.1, by UDP and TCP: a process that ends
// with this, or with the test. It has names below "test." only: of others it knows nothing, and asks nobody.
//
// Thread-compatible. Dies, with what dnsmasq has said, if it cannot be had.
class DnsServer {
 public:
  // `records` are lines of dnsmasq's configuration, see dnsmasq(8):
  //
  //     host-record=a.test,127.0.0.1,::1,60               addresses, with a TTL in seconds
  //     srv-host=_ferry._tcp.a.test,a.test,7000,1,10      target, port, priority, weight
  //     local-ttl=60                                      the TTL of all that has none of its own
  explicit DnsServer(const std::vector<std::string>& records);
  ~DnsServer();
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;

  // Has these records instead of what it had, from now on; at the same address.
  void Serve(const std::vector<std::string>& records);

  // "127.0.0.1:5353".
  std::string address() const;

 private:
  bool TryStart(const std::vector<std::string>& records);
  void Stop();
  // False if the process has ended.
  bool AwaitReady(const std::string& name) const;
  bool ended() const;
  [[noreturn]] void Die(const std::string& what) const;

  const TemporaryDirectory directory_;
  uint16_t port_ = 0;
  pid_t process_ = -1;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_DNS_SERVER_H_
