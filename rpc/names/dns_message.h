// What DNS servers answer.
#ifndef FERRY_RPC_NAMES_DNS_MESSAGE_H_
#define FERRY_RPC_NAMES_DNS_MESSAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/socket_address.h"

namespace ferry {

// The types of records that are asked for: RFC 1035, RFC 3596, RFC 2782.
enum class DnsType : uint16_t { kA = 1, kAaaa = 28, kSrv = 33 };

// "A", "AAAA" or "SRV".
const char* DnsTypeName(DnsType type);

// A SrvRecord says where one server of a service is: RFC 2782.
struct SrvRecord {
  uint16_t priority = 0;
  uint16_t weight = 0;
  uint16_t port = 0;
  std::string target;  // a host's name, without a '.' at its end; empty if the service is not to be had
};

// The records of one type in an answer.
struct DnsAnswer {
  std::vector<transport::SocketAddress> addresses;  // of A or AAAA; with port 0
  std::vector<SrvRecord> services;                  // of SRV
  // For how long they may be kept: as the shortest-lived among them says, and the aliases (CNAME) on the way.
  absl::Duration ttl = absl::InfiniteDuration();
};

// The records of `type` in the answer section of `message`; their owners' names are not looked at, since they
// may be those of aliases. UNAVAILABLE, with what is wrong, if it is malformed; NOT_FOUND if it has none of
// them. Never reads beyond `message`, whatever that says.
absl::StatusOr<DnsAnswer> ParseDnsAnswer(absl::Span<const uint8_t> message, DnsType type);

// For how long the answer that there is no such name or record may be kept: RFC 2308, section 5. nullopt if
// `message` does not say, or is malformed.
std::optional<absl::Duration> ParseNegativeTtl(absl::Span<const uint8_t> message);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_DNS_MESSAGE_H_
