// A server's entry in etcd.
#ifndef FERRY_RPC_NAMES_ETCD_REGISTRATION_H_
#define FERRY_RPC_NAMES_ETCD_REGISTRATION_H_

#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/etcd_entry.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/loop_group.h"

namespace ferry {

// An EtcdRegistration keeps a server's address in etcd, under a lease, for as long as it lives.
//
//   auto registration = ferry::EtcdRegistration::Create("greeter", "10.0.0.7:7000", {}, {});
//   (*registration)->DropOnDrain(server);
//
// The lease is kept alive every third of EtcdOptions::ttl. If it is lost, or etcd was away, the address is
// registered again; a process that dies is forgotten when the time is over.
//
// Thread-safe, but not to be used or destroyed on an event loop's thread. Destroying it deregisters. It has
// no use in a process that was forked since, and destroying it there does nothing.
class EtcdRegistration {
 public:
  struct Options {
    EtcdOptions etcd = {};
    EtcdServerDetails details = {};
    // Where to run; not owned, must outlive this. Null: one thread of its own.
    transport::LoopGroup* loops = nullptr;
    // How long Deregister waits for etcd.
    absl::Duration deregister_timeout = absl::Seconds(2);
  };

  // Begins to register `address` for `service`, and waits for nothing. The address is what clients connect
  // to: an IP address, not that of all interfaces, and port, or "unix:/path". INVALID_ARGUMENT, with what is
  // wrong, if that or an option cannot be.
  static absl::StatusOr<std::unique_ptr<EtcdRegistration>> Create(std::string_view service,
                                                                  std::string_view address,
                                                                  const Options& options);
  ~EtcdRegistration();
  EtcdRegistration(const EtcdRegistration&) = delete;
  EtcdRegistration& operator=(const EtcdRegistration&) = delete;

  // OK if the address is registered as far as is known; otherwise why not, or not any more.
  absl::Status status() const;

  // Waits until it is, or never will be since it is deregistered, for `timeout` at most; status() then.
  absl::Status AwaitRegistered(absl::Duration timeout) const;

  // Takes the address out of etcd, for good, and waits for that until Options::deregister_timeout is over: an
  // error says why it may still be there, for no longer than the ttl. Does nothing the second time but wait.
  absl::Status Deregister();

  // Begins to deregister, without waiting, when `server` begins to shut down: before its clients are told.
  // This may be destroyed before the server.
  void DropOnDrain(Server& server);

 private:
  class Core;

  EtcdRegistration(std::shared_ptr<Core> core, std::unique_ptr<transport::LoopGroup> own_loops);

  const std::shared_ptr<Core> core_;
  const std::unique_ptr<transport::LoopGroup> own_loops_;  // or null
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_REGISTRATION_H_
