// What a call costs a server while its handler, a coroutine, waits.
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/process_resources.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FERRY_TEST_WITH_SANITIZER
#endif
#endif
#ifdef FERRY_TEST_WITH_SANITIZER
constexpr size_t kConnections = 2;
#else
constexpr size_t kConnections = 25;
#endif
constexpr size_t kCallsPerConnection = 4000;
constexpr size_t kCalls = kConnections * kCallsPerConnection;

// Handlers that wait until their calls are cancelled.
class Waiters final : public ConformanceService {
 public:
  Task<absl::Status> CoHold(ServerContext&, const Message&, Message&) override {
    ++begun;
    const absl::Status slept = co_await Sleep(absl::InfiniteDuration());
    ++ended;
    co_return slept;
  }

  std::atomic<size_t> begun{0};
  std::atomic<size_t> ended{0};
};

// A pipe on which one process lets another go on.
class Gate {
 public:
  Gate() { EXPECT_EQ(pipe(ends_.data()), 0); }
  ~Gate() {
    for (const int end : ends_) close(end);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void Open(const std::string& word) {
    EXPECT_EQ(write(ends_[1], word.data(), word.size()), static_cast<ssize_t>(word.size()));
  }
  // What Open said.
  std::string Pass() {
    std::array<char, 256> word;
    const ssize_t size = read(ends_[0], word.data(), word.size());
    return std::string(word.data(), size > 0 ? static_cast<size_t>(size) : 0);
  }

 private:
  std::array<int, 2> ends_{};
};

// The other process: begins the calls, and leaves them when it is told to.
int BeginCalls(Gate& address, Gate& leave) {
  const std::string server = address.Pass();
  std::vector<std::unique_ptr<Channel>> channels;
  std::atomic<size_t> left{kCalls};
  for (size_t i = 0; i < kConnections; ++i) {
    channels.push_back(ChannelTo(server));
    ConformanceStub stub(*channels.back());
    for (size_t call = 0; call < kCallsPerConnection; ++call) {
      stub.Hold(Message(), {}, [&left](const absl::StatusOr<Message>&) { --left; });
    }
  }
  leave.Pass();
  channels.clear();
  return left == 0 ? 0 : 1;
}

size_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST(WaitingCallsTest, TakeMemoryAndNoThreads) {
  Gate address, leave;
  // Before there are threads.
  const pid_t client = fork();
  if (client == 0) _exit(BeginCalls(address, leave));
  ASSERT_GT(client, 0);

  Waiters service;
  Server server({.threads = 2, .executor_threads = 2});
  server.Register(service);
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  const size_t threads = RunningThreads();
  const size_t heap = HeapBytes();
  address.Open(server.addresses().front());

  ASSERT_TRUE(Eventually([&] { return service.begun == kCalls; })) << service.begun;
  const size_t bytes = (HeapBytes() - heap) / kCalls;
  EXPECT_EQ(RunningThreads(), threads);
  EXPECT_EQ(service.ended, 0u);
  std::printf("%zu calls wait in %zu threads, with %zu bytes each\n", kCalls, threads, bytes);
  RecordProperty("bytes_per_waiting_call", static_cast<int>(bytes));
  // Ten times what it takes.
  EXPECT_LT(bytes, 20'000u);

  leave.Open("now");
  EXPECT_TRUE(Eventually([&] { return service.ended == kCalls; })) << service.ended;
  int status = 0;
  ASSERT_EQ(waitpid(client, &status, 0), client);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ferry::test::e2e
