// A server as etcd keeps it.
#ifndef FERRY_RPC_NAMES_ETCD_ENTRY_H_
#define FERRY_RPC_NAMES_ETCD_ENTRY_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "ferry/rpc/names/resolver.h"

namespace ferry {

// What a server says of itself beside its address.
struct EtcdServerDetails {
  // As in ResolvedServer.
  uint32_t weight = 1;
  std::string locality = {};
  uint32_t priority = 0;
};

// The value of a server's key: JSON, with what is not the default.
std::string EtcdValue(const EtcdServerDetails& details);

// The server whose key is `key`, which begins with `prefix`. INVALID_ARGUMENT, with key, value and what is
// wrong with them.
absl::StatusOr<ResolvedServer> ParseEtcdEntry(std::string_view prefix, std::string_view key,
                                              std::string_view value);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_ENTRY_H_
