// Servers that are replaced under load: no call is lost, and none is executed twice.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
constexpr uint64_t kCallsPerRestart = 200;
#else
constexpr uint64_t kCallsPerRestart = 5000;
#endif
constexpr int kRestarts = 20;
constexpr int kBlockingCallers = 3;
constexpr int kCallbacks = 64;
constexpr size_t kMaxCalls = 4'000'000;

// A Ledger counts, for every id of a call, how often it was executed.
class Ledger final : public ConformanceService {
 public:
  absl::Status EchoExecutor(ServerContext&, const Message& request, Message& reply) override {
    executed_.at(request.id()).fetch_add(1, std::memory_order_relaxed);
    reply.set_id(request.id());
    return absl::OkStatus();
  }
  int executed(uint64_t id) const { return executed_.at(id).load(std::memory_order_relaxed); }

 private:
  std::vector<std::atomic<uint8_t>> executed_ = std::vector<std::atomic<uint8_t>>(kMaxCalls);
};

// A Load makes calls without end, over one channel, of a method that is not idempotent.
class Load {
 public:
  explicit Load(Channel& channel) : stub_(channel) {
    for (int i = 0; i < kCallbacks; ++i) StartNext();
    for (int i = 0; i < kBlockingCallers; ++i) {
      threads_.emplace_back([this] {
        while (!stopping_.load()) Count(stub_.EchoExecutor(NextRequest()));
      });
    }
  }

  // Waits for `calls` more to end.
  bool WaitForCalls(uint64_t calls) {
    const uint64_t wanted = ended_.load() + calls;
    return Eventually([&] { return ended_.load() >= wanted; });
  }

  // Makes no more, and waits until all have ended; returns how many there were.
  uint64_t Stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
    EXPECT_TRUE(Eventually([this] { return chains_.load() == 0; }));
    EXPECT_EQ(ended_.load(), next_id_.load());
    return next_id_.load();
  }

  uint64_t failed() const { return failed_.load(); }
  absl::Status first_failure() {
    absl::MutexLock lock(&mutex_);
    return first_failure_;
  }

 private:
  Message NextRequest() {
    Message request;
    request.set_id(next_id_.fetch_add(1));
    return request;
  }

  void StartNext() {
    chains_.fetch_add(1);
    stub_.EchoExecutor(NextRequest(), {}, [this](const absl::StatusOr<Message>& reply) {
      Count(reply);
      if (!stopping_.load()) StartNext();
      chains_.fetch_sub(1);
    });
  }

  void Count(const absl::StatusOr<Message>& reply) {
    if (!reply.ok()) {
      failed_.fetch_add(1);
      absl::MutexLock lock(&mutex_);
      first_failure_.Update(reply.status());
    }
    ended_.fetch_add(1);
  }

  ConformanceStub stub_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_id_{0};
  std::atomic<uint64_t> ended_{0};
  std::atomic<uint64_t> failed_{0};
  std::atomic<int> chains_{0};
  absl::Mutex mutex_;
  absl::Status first_failure_;
  std::vector<std::thread> threads_;
};

// Methods run inline on every other server.
std::unique_ptr<Server> Start(Ledger& ledger, const std::string& address, bool run_inline) {
  auto server = std::make_unique<Server>(
      ServerOptions{.threads = 2,
                    .executor_threads = 2,
                    .run_inline = {{"ferry.test.e2e.Conformance/EchoExecutor", run_inline}},
                    .reuse_port = true});
  server->Register(ledger);
  const absl::Status listening = server->Listen(address);
  EXPECT_TRUE(listening.ok()) << listening;
  return server;
}

class RestartTest : public testing::TestWithParam<std::string> {};

TEST_P(RestartTest, LosesNoCallAndExecutesNoneTwice) {
  const TemporaryDirectory directory;
  Ledger ledger;
  std::unique_ptr<Server> server = Start(ledger, NewAddress(GetParam(), directory), false);
  const std::string address = server->addresses().front();
  const std::unique_ptr<Channel> channel = ChannelTo(address);
  Load load(*channel);
  for (int i = 0; i < kRestarts; ++i) {
    ASSERT_TRUE(load.WaitForCalls(kCallsPerRestart)) << "after " << i << " restarts";
    std::unique_ptr<Server> next = Start(ledger, address, i % 2 == 0);
    server->Shutdown(kLongTime);
    server = std::move(next);
  }
  EXPECT_TRUE(load.WaitForCalls(kCallsPerRestart));
  const uint64_t calls = load.Stop();
  EXPECT_EQ(load.failed(), 0u) << "of " << calls << " calls; the first: " << load.first_failure();
  uint64_t lost = 0, repeated = 0;
  for (uint64_t id = 0; id < calls; ++id) {
    if (ledger.executed(id) < 1) ++lost;
    if (ledger.executed(id) > 1) ++repeated;
  }
  EXPECT_EQ(lost, 0u) << "of " << calls << " calls";
  EXPECT_EQ(repeated, 0u) << "of " << calls << " calls";
  std::printf("%d calls over %d restarts\n", static_cast<int>(calls), kRestarts);
}

INSTANTIATE_TEST_SUITE_P(Transports, RestartTest, testing::Values("127.0.0.1:0", "unix"),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::string(info.param == "unix" ? "Unix" : "Tcp");
                         });

// Without a server that takes over there is a time when nobody listens: calls that wait for ready wait.
TEST(RestartGapTest, CallsThatWaitForReadySurviveIt) {
  const TemporaryDirectory directory;
  for (const std::string& transport : {std::string("127.0.0.1:0"), std::string("unix-abstract")}) {
    SCOPED_TRACE(transport);
    Ledger ledger;
    std::unique_ptr<Server> server = Start(ledger, NewAddress(transport, directory), false);
    const std::string address = server->addresses().front();
    const std::unique_ptr<Channel> channel =
        ChannelTo(address, {.min_backoff = absl::Milliseconds(20), .max_backoff = absl::Milliseconds(20)});
    ConformanceStub stub(*channel);
    for (uint64_t id = 0; id < 5; ++id) {
      Message request;
      request.set_id(id);
      Later<absl::Status> ended;
      server.reset();
      stub.EchoExecutor(request, {.wait_for_ready = true},
                        [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
      server = Start(ledger, address, false);
      EXPECT_TRUE(ended.Wait().ok()) << ended.Wait();
      EXPECT_EQ(ledger.executed(id), 1);
    }
  }
}

}  // namespace
}  // namespace ferry::test::e2e
