// What a small call costs once all is warm: allocations, bytes on the wire, reads and writes.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ferry/benchmarks/event_counter.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/address.h"
#include "ferry/transport/check.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/socket_options.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/counting_connector.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using bench::EventCounter;

constexpr int kWarmUp = 2'000;
constexpr int kCalls = 10'000;

// Allocations of a call, client and server together: none, but for a vector that grows or a block that was
// given back to the system once in hundreds of calls.
constexpr double kLimit = 0.01;

// No string in it: parsing one that does not fit into std::string itself allocates, which is not ours to
// avoid.
Message SmallMessage() {
  Message message;
  message.set_id(1'000'000);
  return message;
}

// A client and a server of one loop each, connected by TCP, whose connection counts.
struct Counted {
  Counted() {
    const absl::StatusOr<transport::Address> address = transport::Address::Parse(served.address());
    FERRY_CHECK(address.ok(), "the server's address does not parse");
    auto resolved = transport::Resolve(*address);
    FERRY_CHECK(resolved.ok(), "the server's address cannot be found");
    auto connector = std::make_unique<CountingConnector>(
        std::make_unique<transport::SocketConnector>(*std::move(resolved), transport::SocketOptions()),
        counters);
    channel = *Channel::CreateOver(std::move(connector));
    stub = std::make_unique<ConformanceStub>(*channel);
  }

  Served served{"127.0.0.1:0", {.threads = 1}};
  StreamCounters counters;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ConformanceStub> stub;
};

// A Chain makes calls one after the other: `start` starts one, whose callback calls Next().
struct Chain {
  int left;
  std::function<void()> start = {};
  absl::Notification done = {};

  void Next() {
    if (left-- == 0) return done.Notify();
    start();
  }
  void Run() {
    Next();
    FERRY_CHECK(done.WaitForNotificationWithTimeout(kLongTime), "calls did not end");
  }
};

// Allocations of one of the calls that `run` makes as many of as it is told.
double AllocationsOfEach(const std::function<void(int calls)>& run) {
  run(kWarmUp);
  const int64_t before = EventCounter::Total(EventCounter::kHeapAllocations);
  run(kCalls);
  return static_cast<double>(EventCounter::Total(EventCounter::kHeapAllocations) - before) / kCalls;
}

TEST(CostTest, AllocationsAreCounted) {
  const int64_t before = EventCounter::Total(EventCounter::kHeapAllocations);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(std::string(100 + i, 'a').size(), 100u + i);
  EXPECT_GE(EventCounter::Total(EventCounter::kHeapAllocations) - before, 10);
}

TEST(CostTest, CallsAllocateNothing) {
  Counted counted;
  ConformanceStub& stub = *counted.stub;
  const Message request = SmallMessage();
  Message reply;
  const struct {
    const char* form;
    std::function<void(int)> run;
    double limit;
  } kForms[] = {
      {"blocking, reused reply",
       [&](int calls) {
         for (int i = 0; i < calls; ++i) FERRY_CHECK(stub.EchoInline(request, reply).ok(), "a call failed");
       },
       kLimit},
      {"blocking, fresh reply",
       [&](int calls) {
         for (int i = 0; i < calls; ++i) FERRY_CHECK(stub.EchoInline(request).ok(), "a call failed");
       },
       kLimit},
      {"callback, reused reply",
       [&](int calls) {
         Chain chain{.left = calls};
         chain.start = [&] {
           stub.EchoInline(request, reply, {}, [&chain](const absl::Status&) { chain.Next(); });
         };
         chain.Run();
       },
       kLimit},
      {"callback, fresh reply",
       [&](int calls) {
         Chain chain{.left = calls};
         chain.start = [&] {
           stub.EchoInline(request, {}, [&chain](const absl::StatusOr<Message>&) { chain.Next(); });
         };
         chain.Run();
       },
       kLimit},
  };
  for (const auto& form : kForms) {
    const double allocations = AllocationsOfEach(form.run);
    std::printf("%-24s %.4f allocations\n", form.form, allocations);
    EXPECT_LE(allocations, form.limit) << form.form;
  }
}

TEST(CostTest, ACallIsThirtySixBytesLongerThanItsMessages) {
  Counted counted;
  const Message request = MessageOf(1, 20);
  Message reply;
  ASSERT_TRUE(counted.stub->EchoInline(request, reply).ok());
  ASSERT_TRUE(counted.stub->EchoInline(request, reply).ok());
  const StreamCounters& counters = counted.counters;
  const uint64_t written = counters.bytes_written, read = counters.bytes_read;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(counted.stub->EchoInline(request, reply).ok());
  const uint64_t messages = 100 * (request.ByteSizeLong() + reply.ByteSizeLong());
  EXPECT_EQ(counters.bytes_written + counters.bytes_read - written - read, messages + 100 * 36);
}

TEST(CostTest, CallsInFlightTogetherShareReadsAndWrites) {
  constexpr int kInFlight = 128;
  Counted counted;
  const Message request = SmallMessage();
  const auto run = [&](int calls) {
    std::vector<Message> replies(kInFlight);
    absl::Notification done;
    std::atomic<int> left{calls}, running{kInFlight};
    std::function<void(int)> next = [&](int lane) {
      if (left.fetch_sub(1) <= 0) {
        if (running.fetch_sub(1) == 1) done.Notify();
        return;
      }
      counted.stub->EchoInline(request, replies[lane], {},
                               [&next, lane](const absl::Status&) { next(lane); });
    };
    for (int lane = 0; lane < kInFlight; ++lane) next(lane);
    FERRY_CHECK(done.WaitForNotificationWithTimeout(kLongTime), "calls did not end");
  };
  run(kWarmUp);
  const StreamCounters& counters = counted.counters;
  const uint64_t reads = counters.reads, writes = counters.writes;
  const int64_t system_calls = EventCounter::TotalSyscalls();
  const int64_t allocations = EventCounter::Total(EventCounter::kHeapAllocations);
  run(10 * kCalls);
  const double calls = 10.0 * kCalls;
  const double reads_each = static_cast<double>(counters.reads - reads) / calls;
  const double writes_each = static_cast<double>(counters.writes - writes) / calls;
  std::printf(
      "%d in flight: %.4f reads and %.4f writes of the client, %.4f system calls and %.4f allocations of "
      "both\n",
      kInFlight, reads_each, writes_each,
      static_cast<double>(EventCounter::TotalSyscalls() - system_calls) / calls,
      static_cast<double>(EventCounter::Total(EventCounter::kHeapAllocations) - allocations) / calls);
  EXPECT_LE(reads_each, 0.25);
  EXPECT_LE(writes_each, 0.25);
}

}  // namespace
}  // namespace ferry::test::e2e
