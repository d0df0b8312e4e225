// Looking a name up in DNS, once.
#ifndef FERRY_RPC_NAMES_DNS_LOOKUP_H_
#define FERRY_RPC_NAMES_DNS_LOOKUP_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/dns_client.h"
#include "ferry/rpc/names/dns_message.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// What to look for: the addresses of the host `name`, where servers listen on `port`; or the SRV records
// `name`, if there is no port.
struct DnsName {
  std::string name;
  std::optional<uint16_t> port = std::nullopt;
};

// A DnsLookup is one search for the servers of a name.
//
// Of a host, each address is a server. Of SRV records, each record is one, with all the addresses of its
// target, IPv6 first, and named "target:port"; a weight of 0 counts as 1. Targets that have no address are
// left out as long as others have some. For addresses that nobody has told of, neither that there are some
// nor that there are none, those count that an earlier search has found.
//
// "localhost" is this machine, and one server that has both loopback addresses; hosts that the hosts file has
// are not asked for.
//
// Belongs to its loop. Destroying it ends the search.
class DnsLookup {
 public:
  struct Options {
    DnsClient::Options client;
    // In which all must be found out.
    absl::Duration timeout;
    // Empty: there is none.
    std::string hosts_file;
  };

  // The addresses of a host in one family, and of all hosts that have some.
  using Addresses = std::vector<transport::SocketAddress>;
  using Known = std::map<std::pair<std::string, DnsType>, Addresses>;

  struct Result {
    // UNAVAILABLE, with the name, what was said and by whom, if no server was found, or nothing told of any.
    absl::StatusOr<std::vector<ResolvedServer>> servers;
    // The same, if a part of them was not told of, and is what was known before.
    absl::Status incomplete = {};
    // What these are made of, for the next search; empty if there are none.
    Known known = {};
    // For how long they, or the answer that there are none, may be kept; nullopt if nobody said.
    std::optional<absl::Duration> ttl;
    // Whether the error is the answer that there are none.
    bool negative = false;
  };
  using Callback = absl::AnyInvocable<void(Result) &&>;

  // How long what the hosts file says, or the word "localhost", holds.
  static constexpr absl::Duration kLocalTtl = absl::Seconds(30);

  // `known` is what the last search that found servers has found. `loop` is not owned.
  DnsLookup(DnsName name, const Options& options, Known known, transport::EventLoop& loop, Callback done);
  ~DnsLookup();
  DnsLookup(const DnsLookup&) = delete;
  DnsLookup& operator=(const DnsLookup&) = delete;

  // Begins; `done` runs once, perhaps inside Start, and may destroy this. Called once.
  void Start();

 private:
  // What was found in one family; nothing may have been told of it, as far as that is known.
  struct Family {
    Addresses addresses = {};
    bool told = false;
  };
  // A host whose addresses are being looked for.
  struct Host {
    std::string name;
    uint16_t port = 0;
    SrvRecord record = {};
    Family v6 = {};
    Family v4 = {};
    bool has_addresses() const { return !v6.addresses.empty() || !v4.addresses.empty(); }
  };
  struct Query {
    size_t host;  // in hosts_
    DnsType type;
  };

  void AddHost(Host host);
  bool AnswerLocally(Host& host);
  absl::Status EnsureClient();
  void AskForServices();
  void OnServices(DnsClient::Result result);
  void AskForMore();
  void OnAddresses(Query query, DnsClient::Result result);
  void NoteFailure(const std::string& name, const absl::Status& why, bool negative,
                   std::optional<absl::Duration> ttl);
  void OnTimeout();
  void FinishWithHosts();
  void UseKnown(const Host& host, DnsType type, Family& family) const;
  bool AnyTold() const;
  Known TakeKnown();
  std::vector<ResolvedServer> Servers() const;
  absl::Status Failure(const std::string& name, absl::string_view why) const;
  void Finish(Result result);

  const DnsName name_;
  const Options options_;
  transport::EventLoop& loop_;
  Callback done_;
  const Known known_;
  std::unique_ptr<DnsClient> client_;  // once there is something to ask
  std::vector<Host> hosts_;
  std::deque<Query> to_ask_;
  size_t asked_ = 0;
  absl::Duration ttl_ = absl::InfiniteDuration();
  // Of what failed: the first error that is not negative, or else the first.
  absl::Status failure_;
  bool failure_negative_ = true;
  std::optional<absl::Duration> failure_ttl_;
  transport::Timer timeout_timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_DNS_LOOKUP_H_
