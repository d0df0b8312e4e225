// Servers of one service on loopback addresses, and a channel to them.
#ifndef FERRY_TESTS_END_TO_END_FLEET_FIXTURE_H_
#define FERRY_TESTS_END_TO_END_FLEET_FIXTURE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/health/health_service.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::test::e2e {

// A Host is one server of the service, which counts its calls.
class Host final : public ConformanceService {
 public:
  explicit Host(const std::string& address = "127.0.0.1:0") { Listen(address); }

  absl::Status EchoInline(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status EchoExecutor(ServerContext& context, const Message& request, Message& reply) override {
    return EchoInline(context, request, reply);
  }
  void StartHold(HeldCall call) override;
  void FinishHeld();

  // Cuts every connection.
  void Stop();
  void StartAgain() { Listen(address_); }
  // Is another server from now on, at the same address, which tells its health.
  void StartAgainWithHealth(const HealthService::Options& options = {});
  // Stops as a server does that is to be replaced.
  void Drain() { server_->Shutdown(kLongTime); }

  const std::string& address() const { return address_; }
  int calls() const { return calls_.load(); }
  Server& server() { return *server_; }
  // REQUIRES: StartAgainWithHealth was called.
  HealthService& health() { return *health_; }

  std::atomic<bool> failing{false};
  // How many more calls it turns away, for later.
  std::atomic<int> busy{0};
  // Before it is called.
  absl::Duration busy_for = absl::Milliseconds(1);

 private:
  void Listen(const std::string& address);

  std::atomic<int> calls_{0};
  absl::Mutex mutex_;
  std::vector<HeldCall> held_ ABSL_GUARDED_BY(mutex_);
  std::string address_;
  std::unique_ptr<HealthService> health_;
  std::unique_ptr<Server> server_;
};

// A FleetFixture has three hosts, none of which the channel knows before Tell.
class FleetFixture : public testing::Test {
 protected:
  void Connect(const ChannelOptions& options = {});
  void Tell(const std::vector<Host*>& hosts);
  // The same, and waits until all of them can be used.
  void TellAndConnect(const std::vector<Host*>& hosts);
  // The status without its detail, which is in failure_ then.
  absl::Status Call(const CallOptions& options = {.timeout = kLongTime});
  // Makes calls until each of the hosts has had one.
  ::testing::AssertionResult ReachesAll(const std::vector<Host*>& hosts);

  std::array<Host, 3> hosts_;
  ManualNames names_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
  uint64_t id_ = 0;
  // Of the last call that failed.
  CallFailure failure_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_FLEET_FIXTURE_H_
