#include "tests/end_to_end/directories.h"

#include <cstdio>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/rpc/names/etcd_resolver.h"
#include "ferry/rpc/names/target.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"

namespace ferry::test::e2e {
namespace {

EtcdOptions QuickOptions(const EtcdServer& etcd) {
  return {.endpoints = {etcd.endpoint()},
          .ttl = absl::Seconds(1),
          .backoff_min = absl::Milliseconds(10),
          .backoff_max = absl::Milliseconds(100)};
}

// "7000" of "127.0.0.1:7000".
std::string PortOf(const Host& host) { return host.address().substr(host.address().rfind(':') + 1); }

}  // namespace

ChannelOptions EtcdDirectory::options() const {
  ChannelOptions options;
  options.names.etcd = [etcd = QuickOptions(etcd_)](const Target& target, transport::EventLoop& loop) {
    return NewEtcdResolver(loop, target.name, etcd);
  };
  return options;
}

void EtcdDirectory::Join(Host& host) {
  absl::StatusOr<std::unique_ptr<EtcdRegistration>> registration = EtcdRegistration::Create(
      "shop", host.address(), {.etcd = QuickOptions(etcd_), .deregister_timeout = kLongTime});
  FERRY_CHECK(registration.ok(), registration.status().ToString().c_str());
  (*registration)->DropOnDrain(host.server());
  const absl::Status registered = (*registration)->AwaitRegistered(kLongTime);
  FERRY_CHECK(registered.ok(), registered.ToString().c_str());
  registered_[&host] = *std::move(registration);
}

ChannelOptions DnsDirectory::options() const {
  ChannelOptions options;
  options.names.dns = {.servers = {dns_.address()},
                       .min_interval = absl::Milliseconds(50),
                       .negative_ttl = absl::Milliseconds(50),
                       .max_backoff = absl::Milliseconds(200),
                       .hosts_file = "",
                       .search = false};
  return options;
}

void DnsDirectory::Join(Host& host) {
  hosts_.insert(&host);
  Serve();
}

void DnsDirectory::Leave(Host& host) {
  hosts_.erase(&host);
  Serve();
}

void DnsDirectory::Serve() {
  std::vector<std::string> records = {"local-ttl=1", "host-record=machine.test,127.0.0.1"};
  for (const Host* host : hosts_)
    records.push_back(absl::StrCat("srv-host=_ferry._tcp.shop.test,machine.test,", PortOf(*host), ",0,1"));
  dns_.Serve(records);
}

ChannelOptions FileDirectory::options() const {
  ChannelOptions options;
  options.names.file.settle = absl::Milliseconds(1);
  return options;
}

void FileDirectory::Join(Host& host) {
  hosts_.insert(&host);
  Write();
}

void FileDirectory::Leave(Host& host) {
  hosts_.erase(&host);
  Write();
}

void FileDirectory::Write() const {
  const std::string next = path_ + ".next";
  std::ofstream out(next);
  for (const Host* host : hosts_) out << host->address() << "\n";
  out.close();
  FERRY_CHECK(std::rename(next.c_str(), path_.c_str()) == 0, "cannot write the list");
}

}  // namespace ferry::test::e2e
