// Where channels find servers: in a real etcd, in a real DNS server, and in a file.
#ifndef FERRY_TESTS_END_TO_END_DIRECTORIES_H_
#define FERRY_TESTS_END_TO_END_DIRECTORIES_H_

#include <map>
#include <memory>
#include <set>
#include <string>

#include "ferry/rpc/channel.h"
#include "ferry/rpc/names/etcd_registration.h"
#include "tests/end_to_end/fleet_fixture.h"
#include "tests/testing/dns_server.h"
#include "tests/testing/etcd_server.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test::e2e {

// A Directory lists the servers of one service. Those that it lists outlive it, or leave before.
//
// Thread-compatible.
class Directory {
 public:
  virtual ~Directory() = default;

  // What a channel is made with that follows it.
  virtual std::string target() const = 0;
  virtual ChannelOptions options() const = 0;
  // What a call says, among other things, while no server is listed.
  virtual std::string nobody() const = 0;

  // Lists the host, or does not list it any more; waits until that can be seen.
  virtual void Join(Host& host) = 0;
  virtual void Leave(Host& host) = 0;
};

// Its servers register; they leave by themselves when they drain, too.
class EtcdDirectory final : public Directory {
 public:
  std::string target() const override { return "etcd:///shop"; }
  ChannelOptions options() const override;
  std::string nobody() const override { return "service shop: no server is registered"; }
  void Join(Host& host) override;
  void Leave(Host& host) override { registered_.erase(&host); }

  EtcdServer& etcd() { return etcd_; }

 private:
  EtcdServer etcd_;
  std::map<Host*, std::unique_ptr<EtcdRegistration>> registered_;
};

// SRV records with a TTL of a second.
class DnsDirectory final : public Directory {
 public:
  std::string target() const override { return "dns:///shop.test"; }
  ChannelOptions options() const override;
  std::string nobody() const override { return "cannot find SRV records \"_ferry._tcp.shop.test\": "; }
  void Join(Host& host) override;
  void Leave(Host& host) override;

  // "127.0.0.1:5353".
  std::string address() const { return dns_.address(); }

 private:
  void Serve();

  DnsServer dns_{{}};
  std::set<Host*> hosts_;
};

// A file that is replaced as a whole.
class FileDirectory final : public Directory {
 public:
  FileDirectory() { Write(); }
  std::string target() const override { return "file://" + path_; }
  ChannelOptions options() const override;
  std::string nobody() const override { return path_ + ": there is no server in it"; }
  void Join(Host& host) override;
  void Leave(Host& host) override;

 private:
  void Write() const;

  const TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/servers";
  std::set<Host*> hosts_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_DIRECTORIES_H_
