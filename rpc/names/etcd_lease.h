// A key of etcd's that goes when nobody keeps it.
#ifndef FERRY_RPC_NAMES_ETCD_LEASE_H_
#define FERRY_RPC_NAMES_ETCD_LEASE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "ferry/rpc/names/etcd_api.pb.h"
#include "ferry/rpc/names/etcd_client.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// An EtcdLease puts a key under a lease, and keeps it there until it is told to drop it:
//
//   grant -> put -> wait -> keep alive -(still there)-> wait
//     ^       |                 |
//     +-------+-----(lost)------+         failure: wait, and the same again with the next member
//
// Belongs to its loop. Destroying it leaves the lease to itself.
class EtcdLease {
 public:
  using Listener = absl::AnyInvocable<void(const absl::Status&)>;

  // `on_status` is told whether the key is there as far as is known: whenever a step has succeeded or failed,
  // on the loop, never inside these functions; it may not destroy this.
  EtcdLease(transport::EventLoop& loop, const EtcdOptions& options, std::string_view purpose,
            std::string_view key, std::string_view value, Listener on_status);

  // Begins. Called once.
  void Start() { ActAt(loop_.now()); }

  // Revokes the lease, and with it the key. `done` runs once on the loop, perhaps at once: with OK, or with
  // why it could not be done until `deadline`. Called once; on_status is not called any more.
  void Drop(transport::Instant deadline, absl::AnyInvocable<void(absl::Status)> done);

 private:
  enum class Step { kGrant, kPut, kKeepAlive, kRevoke };

  void ActAt(transport::Instant when);
  void Act();
  void Grant();
  void Put();
  void KeepAlive();
  void Revoke();
  void OnRegistered();
  void OnLost();
  void Fail(const absl::Status& status);
  void EndDrop(const absl::Status& status);

  transport::EventLoop& loop_;
  const EtcdOptions options_;
  const std::string key_;
  const std::string value_;
  Listener on_status_;
  EtcdClient client_;

  Step step_ = Step::kGrant;
  int64_t lease_ = 0;  // 0: none
  int failures_ = 0;   // in a row
  transport::Instant drop_deadline_ = transport::Instant::Infinite();
  absl::AnyInvocable<void(absl::Status)> on_dropped_;

  etcd::LeaseResponse granted_;
  etcd::PutResponse put_;
  etcd::KeepAliveLine kept_;
  EtcdClient::Call call_;
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_LEASE_H_
