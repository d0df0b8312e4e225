#include "ferry/rpc/names/etcd_resolver.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/etcd_api.pb.h"
#include "ferry/rpc/names/etcd_client.h"
#include "ferry/rpc/names/etcd_entry.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {
namespace {

using transport::EventLoop;
using transport::Instant;
using transport::Timer;

// An EtcdResolver reads, watches, and begins again when that fails:
//
//   read -> watch -(compaction)-> read
//     \______\____ failure -> wait -> read from the next member
class EtcdResolver final : public Resolver {
 public:
  EtcdResolver(EventLoop& loop, std::string_view service, const EtcdOptions& options)
      : loop_(loop),
        options_(options),
        prefix_(EtcdKey(options, service)),
        client_(loop, options, absl::StrCat("service ", std::string(service))),
        read_timer_([this] { Read(); }),
        probe_timer_([this] { Probe(); }) {}

  void Start(Watcher& watcher) override {
    loop_.AssertInLoop();
    watcher_ = &watcher;
    ReadAt(loop_.now());
  }

  void ResolveAgain() override {}

 private:
  // By key.
  using Servers = std::map<std::string, ResolvedServer>;

  void ReadAt(Instant when) { loop_.timers().Arm(read_timer_, when); }
  void Read();
  void OnRead(const absl::Status& status);
  void Watch();
  void OnNews(const EtcdClient::WatchNews& news);
  void Apply(const etcd::WatchResponse& response, absl::Status& malformed);
  // Takes in what a key says; the first problem goes to `malformed`, and `before` goes on counting.
  void Put(const etcd::KeyValue& kv, const Servers& before, absl::Status& malformed);
  void Probe();
  void Fail(const absl::Status& status);
  // Tells of the list, unless it is empty, and then of what is wrong with it. May destroy this.
  void Tell(const absl::Status& malformed);

  template <typename Request>
  Request RequestForAll() const {
    Request request;
    request.set_key(prefix_);
    request.set_range_end(EtcdRangeEnd(prefix_));
    return request;
  }

  EventLoop& loop_;
  const EtcdOptions options_;
  const std::string prefix_;
  Watcher* watcher_ = nullptr;
  EtcdClient client_;

  // A key that is malformed now is here as it was when it was not, if ever.
  Servers servers_;
  // What is to be watched from.
  int64_t next_revision_ = 0;
  // In a row.
  int failures_ = 0;
  // When the watch was set up; infinite while there is none.
  Instant watching_since_ = Instant::Infinite();
  // Destroyed once the rest has been told, while this may be destroyed.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  etcd::RangeResponse range_;
  etcd::RangeResponse probe_answer_;
  EtcdClient::Call read_;  // also a probe
  EtcdClient::Call watch_;
  Timer read_timer_;
  Timer probe_timer_;
};

void EtcdResolver::Read() {
  range_.Clear();
  read_ = client_.Post("/v3/kv/range", RequestForAll<etcd::RangeRequest>(), range_,
                       [this](const absl::Status& status) { OnRead(status); });
}

void EtcdResolver::OnRead(const absl::Status& status) {
  if (!status.ok()) return Fail(status);
  // Without one there was an answer, but not of an etcd that could be watched.
  if (range_.header().revision() <= 0) {
    return Fail(client_.Error(absl::StatusCode::kInternal, "the answer has no revision"));
  }
  absl::Status malformed;
  const Servers before = std::exchange(servers_, {});
  for (const etcd::KeyValue& kv : range_.kvs()) Put(kv, before, malformed);
  next_revision_ = range_.header().revision() + 1;
  range_.Clear();
  Watch();
  Tell(malformed);
}

void EtcdResolver::Put(const etcd::KeyValue& kv, const Servers& before, absl::Status& malformed) {
  // Nobody has asked for other keys.
  if (!absl::StartsWith(kv.key(), prefix_)) return;
  absl::StatusOr<ResolvedServer> entry = ParseEtcdEntry(prefix_, kv.key(), kv.value());
  if (entry.ok()) {
    servers_.insert_or_assign(kv.key(), *std::move(entry));
    return;
  }
  malformed.Update(entry.status());
  if (const auto known = before.find(kv.key()); known != before.end()) servers_.insert(*known);
}

void EtcdResolver::Watch() {
  auto request = RequestForAll<etcd::WatchCreateRequest>();
  request.set_start_revision(next_revision_);
  watch_ = client_.Watch(request, [this](const EtcdClient::WatchNews& news) { OnNews(news); });
  watching_since_ = loop_.now();
  loop_.timers().Arm(probe_timer_, loop_.now() + options_.probe_interval);
}

void EtcdResolver::OnNews(const EtcdClient::WatchNews& news) {
  absl::Status malformed;
  bool changed = false;
  absl::Status end = news.end;
  for (const etcd::WatchResponse& response : news.responses) {
    if (response.canceled() || response.compact_revision() > 0) {
      const std::string why = response.compact_revision() > 0
                                  ? absl::StrCat("changes before revision ", response.compact_revision(),
                                                 " are compacted, ", next_revision_, " was asked for")
                                  : absl::StrCat("etcd cancelled the watch: ", response.cancel_reason());
      end = client_.Error(absl::StatusCode::kAborted, why);
      break;
    }
    changed |= response.events_size() > 0;
    Apply(response, malformed);
  }
  const std::weak_ptr<bool> alive = alive_;
  if (changed) Tell(malformed);
  if (!alive.expired() && !end.ok()) Fail(end);
}

void EtcdResolver::Apply(const etcd::WatchResponse& response, absl::Status& malformed) {
  for (const etcd::Event& event : response.events()) {
    if (event.type() == etcd::Event::DELETE) {
      servers_.erase(event.kv().key());
    } else {
      Put(event.kv(), servers_, malformed);
    }
  }
  if (response.events_size() > 0) next_revision_ = response.header().revision() + 1;
}

// A member that does not answer, or has lost touch with the others, says nothing in a watch.
void EtcdResolver::Probe() {
  auto request = RequestForAll<etcd::RangeRequest>();
  request.set_count_only(true);
  read_ = client_.Post("/v3/kv/range", request, probe_answer_, [this](const absl::Status& status) {
    if (!status.ok()) return Fail(status);
    loop_.timers().Arm(probe_timer_, loop_.now() + options_.probe_interval);
  });
}

void EtcdResolver::Fail(const absl::Status& status) {
  if (watching_since_ != Instant::Infinite() && loop_.now() - watching_since_ >= options_.backoff_max) {
    failures_ = 0;
  }
  watching_since_ = Instant::Infinite();
  watch_.reset();
  read_.reset();
  loop_.timers().Cancel(probe_timer_);
  ++failures_;
  ReadAt(loop_.now() + EtcdBackoff(options_, failures_));
  // A compaction is no fault of the member's.
  if (!absl::IsAborted(status)) client_.UseNextEndpoint();
  if (static_cast<size_t>(failures_) <= options_.endpoints.size()) return;
  watcher_->OnServers(status);
}

void EtcdResolver::Tell(const absl::Status& malformed) {
  if (servers_.empty()) {
    return watcher_->OnServers(
        malformed.ok() ? client_.Error(absl::StatusCode::kUnavailable,
                                       absl::StrCat("no server is registered, no key begins with '",
                                                    absl::CHexEscape(prefix_), "'"))
                       : malformed);
  }
  std::vector<ResolvedServer> servers;
  servers.reserve(servers_.size());
  for (const auto& [key, server] : servers_) servers.push_back(server);
  const std::weak_ptr<bool> alive = alive_;
  watcher_->OnServers(std::move(servers));
  if (!malformed.ok() && !alive.expired()) watcher_->OnServers(malformed);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Resolver>> NewEtcdResolver(EventLoop& loop, std::string_view service,
                                                          const EtcdOptions& options) {
  loop.AssertInLoop();
  absl::Status valid = ValidateServiceName(service);
  if (valid.ok()) valid = ValidateEtcdOptions(options);
  if (!valid.ok()) return valid;
  return std::make_unique<EtcdResolver>(loop, service, options);
}

}  // namespace ferry
