#include "ferry/rpc/names/list_resolver.h"

#include <utility>

#include "ferry/transport/check.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {
namespace {

class ListResolver final : public Resolver {
 public:
  ListResolver(std::vector<ResolvedServer> servers, transport::EventLoop& loop)
      : loop_(loop),
        servers_(std::move(servers)),
        timer_([this] { watcher_->OnServers(std::move(servers_)); }) {
    loop_.AssertInLoop();
  }
  ~ListResolver() override {
    loop_.AssertInLoop();
    loop_.timers().Cancel(timer_);
  }

  void Start(Watcher& watcher) override {
    loop_.AssertInLoop();
    FERRY_CHECK(watcher_ == nullptr, "a resolver is started twice");
    watcher_ = &watcher;
    loop_.timers().Arm(timer_, loop_.now());
  }

  void ResolveAgain() override { loop_.AssertInLoop(); }

 private:
  transport::EventLoop& loop_;
  std::vector<ResolvedServer> servers_;
  Watcher* watcher_ = nullptr;
  transport::Timer timer_;
};

}  // namespace

ResolvedServer ServerAt(const transport::SocketAddress& address) {
  ResolvedServer server;
  server.name = address.ToString();
  server.addresses = {address};
  return server;
}

std::unique_ptr<Resolver> NewListResolver(std::vector<ResolvedServer> servers, transport::EventLoop& loop) {
  return std::make_unique<ListResolver>(std::move(servers), loop);
}

}  // namespace ferry
