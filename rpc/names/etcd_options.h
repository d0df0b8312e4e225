// What a user may say of the etcd that knows the servers.
#ifndef FERRY_RPC_NAMES_ETCD_OPTIONS_H_
#define FERRY_RPC_NAMES_ETCD_OPTIONS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ferry {

// EtcdOptions are where etcd is and how to talk to it.
struct EtcdOptions {
  // The members of one cluster: "127.0.0.1:2379", "[::1]:2379" or "unix:/path"; no host names, which would
  // have to be looked up while the loop waits. One is used at a time, chosen at random, and the next when it
  // fails.
  std::vector<std::string> endpoints = {"127.0.0.1:2379"};

  // Put before the service's name. Begins and ends with '/'.
  std::string prefix = "/ferry/services/";

  // How long etcd keeps a server that it does not hear of; it hears of it three times as often. In whole
  // seconds, rounded up, at least 1.
  absl::Duration ttl = absl::Seconds(10);

  // The most time that one request may take, connecting included. A watch has no limit: while it is quiet a
  // short request, every `probe_interval`, shows whether etcd is still there.
  absl::Duration request_timeout = absl::Seconds(3);
  absl::Duration probe_interval = absl::Seconds(5);

  // After a failure the next try comes at once; after that within a random time of up to `backoff_min`, which
  // doubles up to `backoff_max`. A watch that lasted for `backoff_max` counts as a success.
  absl::Duration backoff_min = absl::Milliseconds(100);
  absl::Duration backoff_max = absl::Seconds(10);

  // The longest answer accepted, in bytes, and the longest message of a watch.
  size_t max_answer_bytes = 16 * 1024 * 1024;
};

// INVALID_ARGUMENT, with the option and its value, if one cannot be.
absl::Status ValidateEtcdOptions(const EtcdOptions& options);

// INVALID_ARGUMENT, with the name, unless `service` may be one: not empty, without '/', at most 1,024 bytes.
absl::Status ValidateServiceName(std::string_view service);

// The key under which `address` serves `service`; without an address, what the keys of all its servers begin
// with.
std::string EtcdKey(const EtcdOptions& options, std::string_view service, std::string_view address = {});

// The first key after all that begin with `prefix`. REQUIRES: it ends with '/'.
std::string EtcdRangeEnd(std::string prefix);

// How long to wait after `failures` in a row: nothing after the first.
absl::Duration EtcdBackoff(const EtcdOptions& options, int failures);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_OPTIONS_H_
