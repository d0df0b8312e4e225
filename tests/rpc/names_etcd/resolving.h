// A resolver on a thread of its own, and what it has told.
#ifndef FERRY_TESTS_RPC_NAMES_ETCD_RESOLVING_H_
#define FERRY_TESTS_RPC_NAMES_ETCD_RESOLVING_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/loop_group.h"

namespace ferry::test {

// Options under which nothing takes long.
EtcdOptions QuickEtcdOptions(const std::vector<std::string>& endpoints);

// A Resolving resolves one service in etcd until it is destroyed.
//
// Thread-safe. What is waited for in vain ends by Bazel's timeout.
class Resolving final : public Resolver::Watcher {
 public:
  // `on_told` runs on the loop in each OnServers, after that was noted.
  explicit Resolving(const EtcdOptions& options, std::function<void(Resolving&)> on_told = nullptr);
  ~Resolving() override;

  void OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) override;

  // Waits until the last list told has these names.
  void AwaitNames(const std::vector<std::string>& names);
  // Waits for an error with `text` in it; returns it, and forgets those so far.
  absl::Status AwaitError(const std::string& text);

  std::vector<ResolvedServer> servers() const;
  std::vector<absl::Status> errors() const;
  // Waits until anything was told so often.
  void AwaitTold(size_t times);
  // How often anything was told.
  size_t told() const;

  // Belongs to the loop.
  std::unique_ptr<Resolver> resolver;

  void RunOnLoop(absl::FunctionRef<void()> task);

 private:
  std::vector<std::string> Names() const ABSL_SHARED_LOCKS_REQUIRED(mutex_);

  const std::function<void(Resolving&)> on_told_;
  mutable absl::Mutex mutex_;
  std::vector<ResolvedServer> servers_ ABSL_GUARDED_BY(mutex_);
  bool has_servers_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<absl::Status> errors_ ABSL_GUARDED_BY(mutex_);
  size_t told_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<transport::LoopGroup> loops_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_NAMES_ETCD_RESOLVING_H_
