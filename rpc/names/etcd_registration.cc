#include "ferry/rpc/names/etcd_registration.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/names/etcd_lease.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"

namespace ferry {
namespace {

using transport::EventLoop;
using transport::SocketAddress;

bool IsWildcard(const SocketAddress& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(address.data())->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return address.family() == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(address.data())->sin6_addr);
}

absl::Status Validate(std::string_view service, std::string_view address,
                      const EtcdRegistration::Options& options) {
  if (absl::Status valid = ValidateServiceName(service); !valid.ok()) return valid;
  if (absl::Status valid = ValidateEtcdOptions(options.etcd); !valid.ok()) return valid;
  const EtcdServerDetails& details = options.details;
  // What nobody could read is not written.
  absl::StatusOr<ResolvedServer> read = ParseEtcdEntry(
      EtcdKey(options.etcd, service), EtcdKey(options.etcd, service, address), EtcdValue(details));
  if (!read.ok()) return read.status();
  if (read->locality != details.locality || read->weight != details.weight) {
    return absl::InvalidArgumentError("EtcdServerDetails::locality is not UTF-8");
  }
  if (IsWildcard(read->addresses.front())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", std::string(address), "' stands for all interfaces: clients need the address of one"));
  }
  return absl::OkStatus();
}

}  // namespace

// A Core is what is shared with the loop and with the server's drain.
class EtcdRegistration::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(EventLoop& event_loop, absl::Duration deregister_timeout)
      : loop(event_loop), deregister_timeout_(deregister_timeout) {}

  void Start(std::string_view service, std::string_view address, const Options& options);
  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return status_;
  }
  absl::Status AwaitRegistered(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Core::IsSettled), timeout);
    return status_;
  }
  // Begins to deregister, the first time.
  void Drop() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status AwaitDropped() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends all that is done on the loop, and waits for that.
  void Close();

  EventLoop& loop;

 private:
  // Whether waiting for the registration has come to an end, be it a good one.
  bool IsSettled() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return status_.ok() || dropping_; }
  void SetStatus(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!dropping_) status_ = status;
  }
  void SetDropped(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    dropped_ = status;
  }

  const absl::Duration deregister_timeout_;
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("not registered in etcd yet");
  bool dropping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> dropped_ ABSL_GUARDED_BY(mutex_);
  // Belongs to the loop; null before the start and after Close.
  std::unique_ptr<EtcdLease> lease_;
};

void EtcdRegistration::Core::Start(std::string_view service, std::string_view address,
                                   const Options& options) {
  loop.Post([self = shared_from_this(), etcd = options.etcd,
             purpose = absl::StrCat("registration of ", std::string(address), " for service ",
                                    std::string(service)),
             key = EtcdKey(options.etcd, service, address), value = EtcdValue(options.details)] {
    self->lease_ = std::make_unique<EtcdLease>(
        self->loop, etcd, purpose, key, value,
        [core = self.get()](const absl::Status& status) { core->SetStatus(status); });
    self->lease_->Start();
  });
}

void EtcdRegistration::Core::Drop() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(dropping_, true)) return;
    status_ = absl::FailedPreconditionError("deregistered");
  }
  loop.Post([self = shared_from_this()] {
    if (self->lease_ == nullptr) return self->SetDropped(absl::OkStatus());
    self->lease_->Drop(self->loop.clock().Now() + self->deregister_timeout_,
                       [core = self.get()](const absl::Status& status) { core->SetDropped(status); });
  });
}

absl::Status EtcdRegistration::Core::AwaitDropped() const {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(
      absl::Condition(
          +[](const std::optional<absl::Status>* s) { return s->has_value(); }, &dropped_),
      deregister_timeout_);
  return dropped_.value_or(absl::DeadlineExceededError(
      "etcd did not answer in time: the registration goes when its lease has run out"));
}

void EtcdRegistration::Core::Close() {
  absl::Notification closed;
  loop.Post([this, &closed] {
    lease_.reset();
    closed.Notify();
  });
  closed.WaitForNotification();
}

// ---------------------------------------------------------------- EtcdRegistration

absl::StatusOr<std::unique_ptr<EtcdRegistration>> EtcdRegistration::Create(std::string_view service,
                                                                           std::string_view address,
                                                                           const Options& options) {
  if (absl::Status valid = Validate(service, address, options); !valid.ok()) return valid;
  std::unique_ptr<transport::LoopGroup> own_loops;
  if (options.loops == nullptr) {
    absl::StatusOr<std::unique_ptr<transport::LoopGroup>> created =
        transport::LoopGroup::Create({.threads = 1, .name = "ferry-etcd"});
    if (!created.ok()) return created.status();
    own_loops = *std::move(created);
  }
  EventLoop& loop = own_loops != nullptr ? own_loops->loop(0) : options.loops->Next();
  auto core = std::make_shared<Core>(loop, options.deregister_timeout);
  core->Start(service, address, options);
  return std::unique_ptr<EtcdRegistration>(new EtcdRegistration(std::move(core), std::move(own_loops)));
}

EtcdRegistration::EtcdRegistration(std::shared_ptr<Core> core,
                                   std::unique_ptr<transport::LoopGroup> own_loops)
    : core_(std::move(core)), own_loops_(std::move(own_loops)) {}

EtcdRegistration::~EtcdRegistration() {
  if (core_->loop.fork_guard().forked()) {
    // Its timers and sockets are the other process's: they stay for ever.
    static_cast<void>(std::make_unique<std::shared_ptr<Core>>(core_).release());
    return;
  }
  static_cast<void>(Deregister());
  core_->Close();
}

absl::Status EtcdRegistration::status() const { return core_->status(); }

absl::Status EtcdRegistration::AwaitRegistered(absl::Duration timeout) const {
  return core_->AwaitRegistered(timeout);
}

absl::Status EtcdRegistration::Deregister() {
  FERRY_CHECK(!EventLoop::InAnyLoop(), "EtcdRegistration::Deregister was called on an event loop's thread");
  core_->Drop();
  return core_->AwaitDropped();
}

void EtcdRegistration::DropOnDrain(Server& server) {
  server.OnDrain([core = std::weak_ptr<Core>(core_)] {
    if (const std::shared_ptr<Core> registered = core.lock()) registered->Drop();
  });
}

}  // namespace ferry
