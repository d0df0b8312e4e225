#include "ferry/rpc/names/dns_resolver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/backoff.h"
#include "ferry/rpc/names/target.h"
#include "ferry/transport/check.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {
namespace {

// What makes lists of servers the same: all but the order.
std::vector<std::string> Fingerprint(const std::vector<ResolvedServer>& servers) {
  std::vector<std::string> prints;
  prints.reserve(servers.size());
  for (const ResolvedServer& server : servers) {
    std::vector<std::string> addresses;
    addresses.reserve(server.addresses.size());
    for (const transport::SocketAddress& address : server.addresses) addresses.push_back(address.ToString());
    std::sort(addresses.begin(), addresses.end());
    std::string& print =
        prints.emplace_back(absl::StrCat(server.name, " ", server.weight, " ", server.priority));
    for (const std::string& address : addresses) absl::StrAppend(&print, " ", address);
  }
  std::sort(prints.begin(), prints.end());
  return prints;
}

class DnsResolver final : public Resolver {
 public:
  DnsResolver(const DnsName& name, const DnsResolverOptions& options, transport::EventLoop& loop)
      : name_(name), options_(options), loop_(loop), timer_([this] { Look(); }) {
    loop_.AssertInLoop();
  }
  ~DnsResolver() override {
    loop_.AssertInLoop();
    loop_.timers().Cancel(timer_);
  }

  void Start(Watcher& watcher) override {
    loop_.AssertInLoop();
    FERRY_CHECK(watcher_ == nullptr, "a resolver is started twice");
    watcher_ = &watcher;
    loop_.timers().Arm(timer_, loop_.now());
  }

  void ResolveAgain() override {
    loop_.AssertInLoop();
    if (!complete_ || lookup_ != nullptr) return;
    const transport::Instant soonest = std::max(loop_.now(), looked_ + options_.min_interval);
    if (soonest < timer_.due()) loop_.timers().Arm(timer_, soonest);
  }

 private:
  void Look() {
    looked_ = loop_.now();
    const DnsLookup::Options options = {.client = {.servers = options_.servers,
                                                   .attempt_timeout = options_.attempt_timeout,
                                                   .attempts = options_.attempts,
                                                   .search = options_.search},
                                        .timeout = options_.timeout,
                                        .hosts_file = options_.hosts_file};
    lookup_ = std::make_unique<DnsLookup>(name_, options, known_, loop_,
                                          [this](DnsLookup::Result result) { OnResult(std::move(result)); });
    lookup_->Start();
  }

  // Telling comes last: the watcher may destroy this.
  void OnResult(DnsLookup::Result result) {
    const std::unique_ptr<DnsLookup> ended = std::move(lookup_);
    loop_.timers().Arm(timer_, std::max(loop_.now() + TimeToNext(result), looked_ + options_.min_interval));
    complete_ = result.servers.ok() && result.incomplete.ok();
    if (result.servers.ok()) {
      known_ = std::move(result.known);
      std::vector<std::string> prints = Fingerprint(*result.servers);
      if (complete_ && prints == told_) return;
      told_ = std::move(prints);
    }
    if (!complete_) told_.clear();  // the same servers are news after an error
    const std::weak_ptr<bool> alive = alive_;
    watcher_->OnServers(std::move(result.servers));
    if (!result.incomplete.ok() && !alive.expired()) watcher_->OnServers(result.incomplete);
  }

  absl::Duration TimeToNext(const DnsLookup::Result& result) {
    const bool failed = result.servers.ok() ? !result.incomplete.ok() : !result.negative;
    failures_ = failed ? failures_ + 1 : 0;
    absl::Duration time = absl::InfiniteDuration();
    if (result.servers.ok()) time = std::min(result.ttl.value_or(options_.max_ttl), options_.max_ttl);
    if (result.negative)
      time = std::min(result.ttl.value_or(options_.negative_ttl), options_.max_negative_ttl);
    return failed ? std::min(time, backoff_.Wait(failures_)) : time;
  }

  const DnsName name_;
  const DnsResolverOptions options_;
  transport::EventLoop& loop_;
  Watcher* watcher_ = nullptr;
  std::unique_ptr<DnsLookup> lookup_;  // the one under way
  transport::Instant looked_;          // when the last one began
  bool complete_ = false;              // whether the last one that ended found all servers
  DnsLookup::Known known_;             // of the last one that found any
  std::vector<std::string> told_;      // what was told last; empty if that was an error
  int failures_ = 0;                   // in a row
  Backoff backoff_{options_.min_interval, options_.max_backoff};
  // Destroyed once the rest has been told, while this may be destroyed.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  transport::Timer timer_;
};

absl::Status CheckPositive(const char* name, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("DnsResolverOptions::", name, " is ", absl::FormatDuration(value), ", must be positive"));
}

struct NamedDuration {
  const char* name;
  absl::Duration value;
};

absl::Status CheckOrder(const NamedDuration& less, const NamedDuration& more) {
  if (less.value <= more.value) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("DnsResolverOptions::", less.name, " is ",
                                                 absl::FormatDuration(less.value), ", must be at most ",
                                                 more.name, ", ", absl::FormatDuration(more.value)));
}

}  // namespace

absl::Status DnsResolverOptions::Validate() const {
  absl::Status checked;
  for (const std::string& server : servers) checked.Update(ParseDnsServer(server).status());
  for (const NamedDuration& option :
       {NamedDuration{"timeout", timeout}, NamedDuration{"attempt_timeout", attempt_timeout},
        NamedDuration{"min_interval", min_interval}, NamedDuration{"max_ttl", max_ttl},
        NamedDuration{"negative_ttl", negative_ttl}, NamedDuration{"max_negative_ttl", max_negative_ttl},
        NamedDuration{"max_backoff", max_backoff}})
    checked.Update(CheckPositive(option.name, option.value));
  if (attempts < 1) {
    checked.Update(absl::InvalidArgumentError(
        absl::StrCat("DnsResolverOptions::attempts is ", attempts, ", must be at least 1")));
  }
  checked.Update(CheckOrder({"attempt_timeout", attempt_timeout}, {"timeout", timeout}));
  checked.Update(CheckOrder({"min_interval", min_interval}, {"max_ttl", max_ttl}));
  checked.Update(CheckOrder({"min_interval", min_interval}, {"max_backoff", max_backoff}));
  checked.Update(CheckOrder({"negative_ttl", negative_ttl}, {"max_negative_ttl", max_negative_ttl}));
  return checked;
}

std::unique_ptr<Resolver> NewDnsResolver(const DnsName& name, const DnsResolverOptions& options,
                                         transport::EventLoop& loop) {
  return std::make_unique<DnsResolver>(name, options, loop);
}

}  // namespace ferry
