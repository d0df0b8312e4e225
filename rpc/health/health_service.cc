#include "ferry/rpc/health/health_service.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/stream_io.h"

namespace ferry {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

absl::Status ValidateName(const std::string& service) {
  if (service.size() <= HealthService::kMaxNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the service's name is ", service.size(),
                                                 " bytes, limit is ", HealthService::kMaxNameBytes));
}

}  // namespace

// Statuses are what the services are known to be, and who is to be told.
//
// Thread-safe. Never calls a watch while it holds its mutex; a watch that holds its own may call.
class HealthService::Statuses {
 public:
  explicit Statuses(const Options& options) : max_watches_(options.max_watches) {
    services_[""].status = kServing;
  }

  Status Get(const std::string& service) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto found = services_.find(service);
    return found == services_.end() ? kServiceUnknown : found->second.status;
  }

  void Set(std::string_view service, Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);
  // As Shutdown, and ends the watches, those too that are yet to come.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

  bool draining() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return draining_;
  }

  absl::Status Add(const std::string& service, const std::shared_ptr<Watch>& watch)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Does nothing if it was not added.
  void Remove(const std::string& service, const std::shared_ptr<Watch>& watch) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Watches = absl::flat_hash_set<std::shared_ptr<Watch>>;

  // A service that has a status, or is watched.
  struct Entry {
    Status status = kServiceUnknown;
    Watches watches;
  };

  std::vector<std::shared_ptr<Watch>> AllWatches() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void StopServing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_watches_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Entry> services_ ABSL_GUARDED_BY(mutex_);
  size_t watches_ ABSL_GUARDED_BY(mutex_) = 0;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

// A Watch is one call of Watch: it sends the status whenever that is another than it sent last.
//
// Thread-safe. It lives as long as somebody may still run it.
class HealthService::Watch : public std::enable_shared_from_this<Watch> {
 public:
  Watch(std::shared_ptr<Statuses> statuses, ServerStreamingCall<HealthCheckRequest, HealthCheckResponse> call)
      : statuses_(std::move(statuses)),
        service_(call.request().service()),
        call_(std::move(call)),
        replies_(call_.replies()) {}

  // The call may end as soon as somebody else knows of this.
  void Begin() {
    call_.context().OnCancel(
        [self = shared_from_this()] { self->End(absl::CancelledError("nobody watches")); });
    absl::Status added = statuses_->Add(service_, shared_from_this());
    if (!added.ok()) return End(std::move(added));
    if (ended()) return statuses_->Remove(service_, shared_from_this());
    Tell();
  }

  // Sends the status if it is news and can be sent; ends the call after that if the server drains.
  void Tell() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::Status end;
    {
      absl::MutexLock lock(&mutex_);
      if (waiting_ || ended_) return;
      // Asked before the status is: the last one is sent.
      const bool last = statuses_->draining();
      const Status status = statuses_->Get(service_);
      if (status != told_ && !Write(status)) return;
      if (!last) return;
    }
    End(absl::UnavailableError("the server shuts down"));
  }

 private:
  // Whether `status` is on its way; otherwise goes on by itself, if anybody wants it.
  bool Write(Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    HealthCheckResponse response;
    response.set_status(status);
    switch (replies_.TryWrite(response)) {
      case WriteResult::kWritten:
        told_ = status;
        return true;
      case WriteResult::kFull:
        waiting_ = true;
        replies_.WhenWritable([self = shared_from_this()] { self->GoOn(); });
        return false;
      case WriteResult::kEnded:
        break;  // OnCancel tells
    }
    return false;
  }

  void GoOn() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      waiting_ = false;
    }
    Tell();
  }

  bool ended() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }

  // The first to come ends the call: nobody uses it any more then.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(ended_, true)) return;
    }
    statuses_->Remove(service_, shared_from_this());
    std::move(call_).Finish(std::move(status));
  }

  const std::shared_ptr<Statuses> statuses_;
  const std::string service_;
  // Belongs to Begin until somebody else knows of this, and then to End.
  ServerStreamingCall<HealthCheckRequest, HealthCheckResponse> call_;
  absl::Mutex mutex_;
  StreamWriter<HealthCheckResponse> replies_ ABSL_GUARDED_BY(mutex_);
  std::optional<Status> told_ ABSL_GUARDED_BY(mutex_);
  // WhenWritable will run GoOn.
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// ---------------------------------------------------------------- Statuses

void HealthService::Statuses::Set(std::string_view service, Status status) {
  const std::string name(service);
  Watches watches;
  {
    absl::MutexLock lock(&mutex_);
    if (shut_down_) return;
    Entry& entry = services_[name];
    entry.status = status;
    watches = entry.watches;
    if (status == kServiceUnknown && watches.empty()) services_.erase(name);
  }
  for (const std::shared_ptr<Watch>& watch : watches) watch->Tell();
}

std::vector<std::shared_ptr<HealthService::Watch>> HealthService::Statuses::AllWatches() const {
  std::vector<std::shared_ptr<Watch>> watches;
  watches.reserve(watches_);
  for (const auto& [name, entry] : services_) {
    watches.insert(watches.end(), entry.watches.begin(), entry.watches.end());
  }
  return watches;
}

void HealthService::Statuses::StopServing() {
  if (std::exchange(shut_down_, true)) return;
  for (auto& [name, entry] : services_) {
    if (entry.status != kServiceUnknown) entry.status = kNotServing;
  }
}

void HealthService::Statuses::Shutdown() {
  std::vector<std::shared_ptr<Watch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    StopServing();
    watches = AllWatches();
  }
  for (const std::shared_ptr<Watch>& watch : watches) watch->Tell();
}

void HealthService::Statuses::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    StopServing();
    draining_ = true;
  }
  Shutdown();
}

absl::Status HealthService::Statuses::Add(const std::string& service, const std::shared_ptr<Watch>& watch) {
  absl::MutexLock lock(&mutex_);
  if (watches_ >= max_watches_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", watches_, " watches of health, limit is ", max_watches_));
  }
  services_[service].watches.insert(watch);
  ++watches_;
  return absl::OkStatus();
}

void HealthService::Statuses::Remove(const std::string& service, const std::shared_ptr<Watch>& watch) {
  absl::MutexLock lock(&mutex_);
  const auto found = services_.find(service);
  if (found == services_.end() || found->second.watches.erase(watch) == 0) return;
  --watches_;
  if (found->second.status == kServiceUnknown && found->second.watches.empty()) services_.erase(found);
}

// ---------------------------------------------------------------- HealthService

HealthService::HealthService(const Options& options) : statuses_(std::make_shared<Statuses>(options)) {}

HealthService::~HealthService() = default;

void HealthService::AddTo(Server& server) {
  server.Register(*this);
  server.OnDrain([statuses = statuses_] { statuses->Drain(); });
}

void HealthService::SetStatus(std::string_view service, Status status) { statuses_->Set(service, status); }

void HealthService::Shutdown() { statuses_->Shutdown(); }

absl::Status HealthService::Check(ServerContext& /*context*/, const HealthCheckRequest& request,
                                  HealthCheckResponse& response) {
  if (absl::Status valid = ValidateName(request.service()); !valid.ok()) return valid;
  const Status status = statuses_->Get(request.service());
  if (status == kServiceUnknown) {
    return absl::NotFoundError(absl::StrCat("the service '", request.service(), "' is unknown here"));
  }
  response.set_status(status);
  return absl::OkStatus();
}

void HealthService::StartWatch(ServerStreamingCall<HealthCheckRequest, HealthCheckResponse> call) {
  absl::Status valid = ValidateName(call.request().service());
  if (!valid.ok()) return std::move(call).Finish(std::move(valid));
  std::make_shared<Watch>(statuses_, std::move(call))->Begin();
}

}  // namespace ferry
