// Servers that are found in DNS.
#ifndef FERRY_RPC_NAMES_DNS_RESOLVER_H_
#define FERRY_RPC_NAMES_DNS_RESOLVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/dns_lookup.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// How names are looked up. README.md beside this file says why the defaults are what they are.
struct DnsResolverOptions {
  // The DNS servers to ask, one after the other until one answers: "10.0.0.53", "10.0.0.53:5353",
  // "[::1]:5353"; without a port 53. Empty: those of resolv.conf(5).
  std::vector<std::string> servers;

  // How long a lookup may take in all. What has not been found out then is an error.
  absl::Duration timeout = absl::Seconds(5);
  // How long to wait for one DNS server before the next is asked, twice as long in each further round; and
  // how many rounds there are.
  absl::Duration attempt_timeout = absl::Milliseconds(1500);
  int attempts = 2;

  // Lookups begin at least this far from each other, whatever the TTL is and however often ResolveAgain is
  // called.
  absl::Duration min_interval = absl::Seconds(1);
  // What was found is looked for again after its TTL, or after this if that is sooner.
  absl::Duration max_ttl = absl::Minutes(5);
  // That there is no such name is believed for as long as its zone says (the SOA record of the answer; RFC
  // 2308), or for negative_ttl if that says nothing; but no longer than max_negative_ttl.
  absl::Duration negative_ttl = absl::Seconds(5);
  absl::Duration max_negative_ttl = absl::Seconds(30);
  // After other failures the next lookup comes after a random time, up to twice as long after each further
  // failure, and up to this.
  absl::Duration max_backoff = absl::Seconds(30);

  // Asked before DNS is; see hosts(5). Empty: none.
  std::string hosts_file = "/etc/hosts";
  // Whether to look for a name also in the domains that resolv.conf says; not if it ends with '.'.
  bool search = true;

  // INVALID_ARGUMENT, with the option and its value, if one is not positive, or is above the one that bounds
  // it.
  absl::Status Validate() const;
};

// A resolver that tells its watcher of the servers of `name` as DnsLookup finds them, again whenever others
// are found than were told of last, in whatever order. A lookup that fails is an error, each time: the
// servers told before go on counting. So is one that fails in part, after the servers that there are then:
// what it could not find out is in them as it was last known, and is asked for again as after a failure.
//
// ResolveAgain begins the next lookup as soon as min_interval allows, if the last one found all servers;
// after a failure the next is on its way by itself. `loop` is not owned. REQUIRES: `options` are valid.
std::unique_ptr<Resolver> NewDnsResolver(const DnsName& name, const DnsResolverOptions& options,
                                         transport::EventLoop& loop);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_DNS_RESOLVER_H_
