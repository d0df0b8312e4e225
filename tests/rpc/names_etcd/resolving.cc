#include "tests/rpc/names_etcd/resolving.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/etcd_resolver.h"
#include "ferry/transport/check.h"

namespace ferry::test {

EtcdOptions QuickEtcdOptions(const std::vector<std::string>& endpoints) {
  return {.endpoints = endpoints,
          .ttl = absl::Seconds(1),
          .request_timeout = absl::Seconds(2),
          .probe_interval = absl::Milliseconds(100),
          .backoff_min = absl::Milliseconds(10),
          .backoff_max = absl::Milliseconds(100)};
}

Resolving::Resolving(const EtcdOptions& options, std::function<void(Resolving&)> on_told)
    : on_told_(std::move(on_told)), loops_(*transport::LoopGroup::Create({.threads = 1})) {
  RunOnLoop([&] {
    absl::StatusOr<std::unique_ptr<Resolver>> made = NewEtcdResolver(loops_->loop(0), "greeter", options);
    FERRY_CHECK(made.ok(), made.status().ToString().c_str());
    resolver = *std::move(made);
    resolver->Start(*this);
  });
}

Resolving::~Resolving() {
  RunOnLoop([this] { resolver.reset(); });
}

void Resolving::RunOnLoop(absl::FunctionRef<void()> task) {
  absl::Notification done;
  loops_->loop(0).Post([task, &done] {
    task();
    done.Notify();
  });
  done.WaitForNotification();
}

void Resolving::OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) {
  {
    absl::MutexLock lock(&mutex_);
    ++told_;
    if (servers.ok()) {
      servers_ = *std::move(servers);
      has_servers_ = true;
    } else {
      // A copy of its own: how threads share a status is not seen by TSan in the packaged Abseil.
      errors_.emplace_back(servers.status().code(), servers.status().message());
    }
  }
  if (on_told_) on_told_(*this);
}

std::vector<std::string> Resolving::Names() const {
  std::vector<std::string> names;
  names.reserve(servers_.size());
  for (const ResolvedServer& server : servers_) names.push_back(server.name);
  return names;
}

void Resolving::AwaitNames(const std::vector<std::string>& names) {
  absl::MutexLock lock(&mutex_);
  const auto told = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return has_servers_ && Names() == names; };
  mutex_.Await(absl::Condition(&told));
}

absl::Status Resolving::AwaitError(const std::string& text) {
  absl::MutexLock lock(&mutex_);
  absl::Status found;
  const auto told = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    for (const absl::Status& error : errors_) {
      if (absl::StrContains(error.message(), text)) found = error;
    }
    return !found.ok();
  };
  mutex_.Await(absl::Condition(&told));
  errors_.clear();
  return found;
}

void Resolving::AwaitTold(size_t times) {
  absl::MutexLock lock(&mutex_);
  const auto told = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return told_ >= times; };
  mutex_.Await(absl::Condition(&told));
}

std::vector<ResolvedServer> Resolving::servers() const {
  absl::MutexLock lock(&mutex_);
  return servers_;
}

std::vector<absl::Status> Resolving::errors() const {
  absl::MutexLock lock(&mutex_);
  return errors_;
}

size_t Resolving::told() const {
  absl::MutexLock lock(&mutex_);
  return told_;
}

}  // namespace ferry::test
