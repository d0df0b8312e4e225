#include "ferry/rpc/names/etcd_lease.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"

namespace ferry {

using transport::Instant;

namespace {

int64_t WholeSeconds(absl::Duration d) { return absl::ToInt64Seconds(absl::Ceil(d, absl::Seconds(1))); }

}  // namespace

EtcdLease::EtcdLease(transport::EventLoop& loop, const EtcdOptions& options, std::string_view purpose,
                     std::string_view key, std::string_view value, Listener on_status)
    : loop_(loop),
      options_(options),
      key_(key),
      value_(value),
      on_status_(std::move(on_status)),
      client_(loop, options, purpose),
      timer_([this] { Act(); }) {}

void EtcdLease::ActAt(Instant when) { loop_.timers().Arm(timer_, when); }

void EtcdLease::Act() {
  switch (step_) {
    case Step::kGrant:
      return Grant();
    case Step::kPut:
      return Put();
    case Step::kKeepAlive:
      return KeepAlive();
    case Step::kRevoke:
      return Revoke();
  }
}

void EtcdLease::Grant() {
  etcd::LeaseGrantRequest request;
  request.set_ttl(WholeSeconds(options_.ttl));
  granted_.Clear();
  call_ = client_.Post("/v3/lease/grant", request, granted_, [this](const absl::Status& status) {
    if (!status.ok()) return Fail(status);
    lease_ = granted_.id();
    if (lease_ == 0) return Fail(client_.Error(absl::StatusCode::kInternal, "granted a lease without an ID"));
    step_ = Step::kPut;
    Put();
  });
}

void EtcdLease::Put() {
  etcd::PutRequest request;
  request.set_key(key_);
  request.set_value(value_);
  request.set_lease(lease_);
  call_ = client_.Post("/v3/kv/put", request, put_, [this](const absl::Status& status) {
    if (absl::IsNotFound(status)) return OnLost();
    if (!status.ok()) return Fail(status);
    OnRegistered();
  });
}

void EtcdLease::KeepAlive() {
  etcd::LeaseRequest request;
  request.set_id(lease_);
  kept_.Clear();
  call_ = client_.Post("/v3/lease/keepalive", request, kept_, [this](const absl::Status& status) {
    if (!status.ok()) return Fail(status);
    if (kept_.has_error())
      return Fail(client_.Error(absl::StatusCode::kUnavailable, kept_.error().message()));
    if (kept_.result().ttl() <= 0) return OnLost();
    OnRegistered();
  });
}

void EtcdLease::OnRegistered() {
  failures_ = 0;
  step_ = Step::kKeepAlive;
  ActAt(loop_.now() + options_.ttl / 3);
  on_status_(absl::OkStatus());
}

void EtcdLease::OnLost() {
  lease_ = 0;
  step_ = Step::kGrant;
  Fail(client_.Error(absl::StatusCode::kNotFound, "the lease is lost"));
}

// Does the step again, or what has taken its place; the time that a lease has left is not waited away.
void EtcdLease::Fail(const absl::Status& status) {
  ++failures_;
  const Instant again = loop_.now() + std::min(EtcdBackoff(options_, failures_), options_.ttl / 3);
  if (step_ == Step::kRevoke && again >= drop_deadline_) return EndDrop(status);
  if (!absl::IsNotFound(status)) client_.UseNextEndpoint();
  ActAt(again);
  if (step_ != Step::kRevoke) on_status_(status);
}

void EtcdLease::Drop(Instant deadline, absl::AnyInvocable<void(absl::Status)> done) {
  call_.reset();
  loop_.timers().Cancel(timer_);
  step_ = Step::kRevoke;
  failures_ = 0;
  drop_deadline_ = deadline;
  on_dropped_ = std::move(done);
  // A lease that is being granted just now has no key, and goes by itself.
  if (lease_ == 0) return EndDrop(absl::OkStatus());
  Revoke();
}

void EtcdLease::Revoke() {
  if (loop_.now() >= drop_deadline_) {
    return EndDrop(client_.Error(absl::StatusCode::kDeadlineExceeded, "no answer in time"));
  }
  etcd::LeaseRequest request;
  request.set_id(lease_);
  call_ = client_.Post("/v3/lease/revoke", request, put_, [this](const absl::Status& status) {
    if (status.ok() || absl::IsNotFound(status)) return EndDrop(absl::OkStatus());
    Fail(status);
  });
}

void EtcdLease::EndDrop(const absl::Status& status) {
  absl::AnyInvocable<void(absl::Status)> done = std::move(on_dropped_);
  done(status);
}

}  // namespace ferry
