#include "ferry/rpc/names/dns_lookup.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/names/hosts_file.h"
#include "ferry/rpc/names/list_resolver.h"
#include "ferry/transport/posix.h"

namespace ferry {
namespace {

// More would be a burst that a DNS server may drop.
constexpr size_t kMaxAsked = 16;
constexpr size_t kMaxHostsFileBytes = 4 * 1024 * 1024;

transport::SocketAddress WithPort(transport::SocketAddress address, uint16_t port) {
  address.set_port(port);
  return address;
}

}  // namespace

DnsLookup::DnsLookup(DnsName name, const Options& options, Known known, transport::EventLoop& loop,
                     Callback done)
    : name_(std::move(name)),
      options_(options),
      loop_(loop),
      done_(std::move(done)),
      known_(std::move(known)),
      timeout_timer_([this] { OnTimeout(); }) {
  loop_.AssertInLoop();
}

DnsLookup::~DnsLookup() {
  loop_.AssertInLoop();
  loop_.timers().Cancel(timeout_timer_);
}

void DnsLookup::Start() {
  loop_.AssertInLoop();
  loop_.timers().Arm(timeout_timer_, loop_.now() + options_.timeout);
  if (!name_.port) return AskForServices();
  AddHost({.name = name_.name, .port = *name_.port});
  AskForMore();
}

void DnsLookup::AddHost(Host host) {
  if (!AnswerLocally(host)) {
    to_ask_.push_back({.host = hosts_.size(), .type = DnsType::kAaaa});
    to_ask_.push_back({.host = hosts_.size(), .type = DnsType::kA});
  }
  hosts_.push_back(std::move(host));
}

bool DnsLookup::AnswerLocally(Host& host) {
  std::vector<transport::SocketAddress> addresses;
  if (IsLocalhost(host.name)) {
    addresses = LocalhostAddresses();
  } else if (!options_.hosts_file.empty()) {
    // A file that is not there, or cannot be read, names no host.
    const absl::StatusOr<std::string> text = transport::ReadFile(options_.hosts_file, kMaxHostsFileBytes);
    if (text.ok()) addresses = FindInHosts(*text, host.name);
  }
  if (addresses.empty()) return false;
  for (const transport::SocketAddress& address : addresses)
    (address.family() == AF_INET6 ? host.v6 : host.v4).addresses.push_back(address);
  host.v6.told = host.v4.told = true;
  ttl_ = std::min(ttl_, kLocalTtl);
  return true;
}

absl::Status DnsLookup::EnsureClient() {
  if (client_ != nullptr) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<DnsClient>> client = DnsClient::Create(options_.client, loop_);
  if (!client.ok()) return client.status();
  client_ = *std::move(client);
  return absl::OkStatus();
}

void DnsLookup::AskForServices() {
  if (absl::Status ready = EnsureClient(); !ready.ok())
    return Finish({.servers = Failure(name_.name, ready.message()), .ttl = std::nullopt});
  client_->Query(name_.name, DnsType::kSrv,
                 [this](DnsClient::Result result) { OnServices(std::move(result)); });
}

void DnsLookup::OnServices(DnsClient::Result result) {
  if (!result.answer.ok()) {
    return Finish({.servers = Failure(name_.name, result.answer.status().message()),
                   .ttl = result.negative_ttl,
                   .negative = result.negative});
  }
  ttl_ = result.answer->ttl;
  std::vector<SrvRecord>& records = result.answer->services;
  std::stable_sort(records.begin(), records.end(),
                   [](const SrvRecord& a, const SrvRecord& b) { return a.priority < b.priority; });
  absl::flat_hash_set<std::string> seen;
  for (SrvRecord& record : records) {
    // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain."
    if (record.target.empty()) continue;
    if (!seen.insert(absl::StrCat(record.target, ":", record.port)).second) continue;
    AddHost({.name = record.target, .port = record.port, .record = record});
  }
  if (hosts_.empty()) {
    return Finish({.servers = Failure(name_.name, "its SRV record says that the service is not to be had"),
                   .ttl = ttl_,
                   .negative = true});
  }
  AskForMore();
}

void DnsLookup::AskForMore() {
  while (!to_ask_.empty() && asked_ < kMaxAsked) {
    const Query query = to_ask_.front();
    to_ask_.pop_front();
    if (absl::Status ready = EnsureClient(); !ready.ok()) {
      NoteFailure(hosts_[query.host].name, ready, /*negative=*/false, std::nullopt);
      continue;
    }
    ++asked_;
    // A target of SRV records is a whole name; it is not looked for in other domains.
    const std::string& name = hosts_[query.host].name;
    client_->Query(name_.port ? name : absl::StrCat(name, "."), query.type,
                   [this, query](DnsClient::Result result) { OnAddresses(query, std::move(result)); });
  }
  if (asked_ == 0) FinishWithHosts();
}

void DnsLookup::OnAddresses(Query query, DnsClient::Result result) {
  --asked_;
  Host& host = hosts_[query.host];
  Family& family = query.type == DnsType::kAaaa ? host.v6 : host.v4;
  family.told = result.answer.ok() || result.negative;
  if (result.answer.ok()) {
    ttl_ = std::min(ttl_, result.answer->ttl);
    family.addresses = std::move(result.answer->addresses);
  } else {
    NoteFailure(host.name, result.answer.status(), result.negative, result.negative_ttl);
  }
  AskForMore();
}

void DnsLookup::NoteFailure(const std::string& name, const absl::Status& why, bool negative,
                            std::optional<absl::Duration> ttl) {
  if (negative && ttl) failure_ttl_ = std::min(failure_ttl_.value_or(*ttl), *ttl);
  if (!failure_.ok() && (negative || !failure_negative_)) return;
  failure_ = Failure(name, why.message());
  failure_negative_ = negative;
}

void DnsLookup::OnTimeout() {
  const auto silent = std::find_if(hosts_.begin(), hosts_.end(),
                                   [](const Host& host) { return !host.v6.told || !host.v4.told; });
  NoteFailure(silent == hosts_.end() ? name_.name : silent->name, DnsClient::NoAnswer(), /*negative=*/false,
              std::nullopt);
  FinishWithHosts();
}

void DnsLookup::FinishWithHosts() {
  // Whatever was told of: none of it is news if nothing was.
  if (AnyTold()) {
    for (Host& host : hosts_) {
      UseKnown(host, DnsType::kAaaa, host.v6);
      UseKnown(host, DnsType::kA, host.v4);
    }
  }
  std::vector<ResolvedServer> servers = Servers();
  if (servers.empty())
    return Finish({.servers = failure_, .ttl = failure_ttl_, .negative = failure_negative_});
  // A target that has no address may get one: looked for again when that answer has had its time.
  const bool partly =
      std::any_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return !host.has_addresses(); });
  if (partly && failure_ttl_) ttl_ = std::min(ttl_, *failure_ttl_);
  Finish({.servers = std::move(servers),
          .incomplete = failure_negative_ ? absl::OkStatus() : failure_,
          .known = TakeKnown(),
          .ttl = ttl_});
}

void DnsLookup::UseKnown(const Host& host, DnsType type, Family& family) const {
  if (family.told) return;
  if (const auto found = known_.find({host.name, type}); found != known_.end())
    family.addresses = found->second;
}

bool DnsLookup::AnyTold() const {
  return std::any_of(hosts_.begin(), hosts_.end(),
                     [](const Host& host) { return host.v6.told || host.v4.told; });
}

DnsLookup::Known DnsLookup::TakeKnown() {
  Known known;
  // A host that is twice among them may have been asked for twice, with different success.
  for (const bool told : {true, false}) {
    for (const Host& host : hosts_) {
      for (const auto& [type, family] :
           {std::pair(DnsType::kAaaa, &host.v6), std::pair(DnsType::kA, &host.v4)})
        if (family->told == told) known.try_emplace({host.name, type}, family->addresses);
    }
  }
  return known;
}

std::vector<ResolvedServer> DnsLookup::Servers() const {
  std::vector<ResolvedServer> servers;
  absl::flat_hash_set<std::string> seen;
  for (const Host& host : hosts_) {
    ResolvedServer server;
    server.name = absl::StrCat(host.name, ":", host.port);
    server.weight = std::max<uint32_t>(host.record.weight, 1);
    server.priority = host.record.priority;
    for (const Family* family : {&host.v6, &host.v4}) {
      for (const transport::SocketAddress& address : family->addresses)
        server.addresses.push_back(WithPort(address, host.port));
    }
    if (server.addresses.empty()) continue;
    if (!name_.port || IsLocalhost(host.name)) {
      servers.push_back(std::move(server));
      continue;
    }
    for (const transport::SocketAddress& address : server.addresses) {
      if (seen.insert(address.ToString()).second) servers.push_back(ServerAt(address));
    }
  }
  return servers;
}

absl::Status DnsLookup::Failure(const std::string& name, absl::string_view why) const {
  const std::string of = name == name_.name ? "" : absl::StrCat(" of \"", name_.name, "\"");
  const std::string asked = client_ == nullptr ? "" : absl::StrCat(" (asked of ", client_->servers(), ")");
  const char* what = name_.port ? "host" : name == name_.name ? "SRV records" : "target";
  return absl::UnavailableError(absl::StrCat("cannot find ", what, " \"", name, "\"", of, ": ", why, asked));
}

void DnsLookup::Finish(Result result) {
  loop_.timers().Cancel(timeout_timer_);
  Callback done = std::move(done_);
  std::move(done)(std::move(result));
}

}  // namespace ferry
