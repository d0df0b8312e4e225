// A resolver that finds what a test says.
#ifndef FERRY_TESTS_TESTING_MANUAL_RESOLVER_H_
#define FERRY_TESTS_TESTING_MANUAL_RESOLVER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/address.h"
#include "ferry/transport/event_loop.h"

namespace ferry::test {

// The server at `address`, which is one that Address parses and nobody has to look up.
inline ResolvedServer ServerAt(const std::string& address) {
  return {.name = address, .addresses = *transport::Resolve(*transport::Address::Parse(address))};
}

// A ManualNames is where a test says which servers there are, for one resolver.
//
// Thread-safe. The channel may outlive it, but must be there when Tell is called.
class ManualNames {
 public:
  // For Channel::CreateResolved and Fleet::Create.
  std::function<absl::StatusOr<std::unique_ptr<Resolver>>(transport::EventLoop&)> Factory() {
    return [state = state_](transport::EventLoop& loop) { return std::make_unique<FromState>(state, loop); };
  }

  // Has the resolver find this from now on. Waits for its start.
  void Tell(absl::StatusOr<std::vector<ResolvedServer>> found) {
    state_->started.wait(false);
    state_->loop->Post([state = state_, found = std::move(found)]() mutable {
      if (state->watcher != nullptr) state->watcher->OnServers(std::move(found));
    });
  }
  void Tell(const std::vector<std::string>& addresses) {
    std::vector<ResolvedServer> servers;
    servers.reserve(addresses.size());
    for (const std::string& address : addresses) servers.push_back(ServerAt(address));
    Tell(std::move(servers));
  }

  // How often the resolver was asked to look again.
  int asked() const { return state_->asked.load(); }

 private:
  struct State {
    std::atomic<bool> started{false};
    std::atomic<int> asked{0};
    transport::EventLoop* loop = nullptr;
    // Belongs to the loop.
    Resolver::Watcher* watcher = nullptr;
  };

  class FromState final : public Resolver {
   public:
    FromState(std::shared_ptr<State> state, transport::EventLoop& loop) : state_(std::move(state)) {
      state_->loop = &loop;
    }
    ~FromState() override { state_->watcher = nullptr; }
    void Start(Watcher& watcher) override {
      state_->watcher = &watcher;
      state_->started = true;
      state_->started.notify_all();
    }
    void ResolveAgain() override { state_->asked.fetch_add(1); }

   private:
    const std::shared_ptr<State> state_;
  };

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_MANUAL_RESOLVER_H_
