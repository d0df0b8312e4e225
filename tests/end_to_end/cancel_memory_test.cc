// Ten thousand cancelled calls of each kind and form leave no memory behind. Sanitizers have a heap of their
// own, which mallinfo2 knows nothing of: there the calls are made, and the leak checker looks.
#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/countdown.h"

namespace ferry::test::e2e {
namespace {

#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
constexpr size_t kRounds = 10;
#else
constexpr size_t kRounds = 100;
#endif
constexpr size_t kCalls = 100;
constexpr size_t kWarmUpRounds = 20;
// Less than if the smallest piece that malloc has, of 32 bytes, were left of each call; a pool may have grown
// by a block or two.
constexpr int64_t kMaxGrowth = 200'000;

int64_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

// A Waiter's handlers wait until their calls are cancelled, without a thread.
class Waiter final : public ConformanceService {
 public:
  Task<absl::Status> CoHold(ServerContext&, const Message&, Message&) override {
    co_return co_await Sleep(absl::InfiniteDuration());
  }
};

class CancelMemoryTest : public testing::Test {
 protected:
  CancelMemoryTest() : server_({.threads = 1}) {
    server_.Register(waiter_);
    server_.Register(streams_);
    EXPECT_TRUE(server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(server_.addresses().front());
    stub_ = std::make_unique<ConformanceStub>(*channel_);
    streams_stub_ = std::make_unique<StreamsStub>(*channel_);
  }

  // How each call of a round is begun: it is to count down once, with CANCELLED, when it is stopped.
  struct Round {
    const CallOptions options;
    Countdown& left;

    void OnEnd(const absl::Status& status) {
      EXPECT_TRUE(absl::IsCancelled(status)) << status;
      left.DecrementCount();
    }
  };
  using Begin = std::function<void(Round& round)>;

  void ExpectNothingLeft(const Begin& begin) {
    for (size_t i = 0; i < kWarmUpRounds; ++i) RunRound(begin);
    const int64_t before = HeapBytes();
    for (size_t i = 0; i < kRounds; ++i) RunRound(begin);
    const int64_t growth = HeapBytes() - before;
    std::printf("%zu cancelled calls, and %lld bytes more\n", kRounds * kCalls,
                static_cast<long long>(growth));
    EXPECT_LT(growth, kMaxGrowth);
    const auto connections = channel_->connections();
    ASSERT_EQ(connections.size(), 1u);
    EXPECT_GE(connections[0].calls_started, ended_) << "every call was sent over it";
    EXPECT_EQ(connections[0].calls_in_flight, 0u);
    EXPECT_TRUE(absl::IsUnimplemented(stub_->EchoInline(Message()).status())) << "it serves on";
  }

  Waiter waiter_;
  TestStreams streams_;
  Server server_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
  std::unique_ptr<StreamsStub> streams_stub_;

 private:
  // Begins so many calls, cancels them, and waits until both sides have ended them.
  void RunRound(const Begin& begin) {
    std::stop_source stop;
    Countdown left(kCalls);
    Round round{{.stop_token = stop.get_token()}, left};
    for (size_t i = 0; i < kCalls; ++i) begin(round);
    // Else they may be cancelled before a handler sees them.
    ASSERT_TRUE(Eventually([&] { return InFlight() == kCalls; }));
    stop.request_stop();
    left.Wait();
    ended_ += kCalls;
    ASSERT_TRUE(Eventually([&] {
      const ServerCounters counters = server_.counters();
      return counters.answers_dropped + counters.calls_dropped == ended_;
    }));
  }
  size_t InFlight() const {
    const auto connections = channel_->connections();
    return connections.size() == 1 ? static_cast<size_t>(connections[0].calls_in_flight) : 0;
  }

  uint64_t ended_ = 0;
};

TEST_F(CancelMemoryTest, OfUnaryCallsWithCallbacks) {
  ExpectNothingLeft([this](Round& round) {
    stub_->Hold(Message(), round.options,
                [&round](const absl::StatusOr<Message>& reply) { round.OnEnd(reply.status()); });
  });
}

TEST_F(CancelMemoryTest, OfUnaryCallsInCoroutines) {
  ExpectNothingLeft([this](Round& round) {
    auto call = [](ConformanceStub& stub) -> Task<absl::Status> {
      co_return (co_await stub.CoHold(Message())).status();
    };
    Spawn(channel_->loop(), call(*stub_), [&round](const absl::Status& status) { round.OnEnd(status); },
          {.stop_token = round.options.stop_token});
  });
}

// Writes one message, reads one, and waits for another.
class CalledBack : public std::enable_shared_from_this<CalledBack> {
 public:
  CalledBack(BidiStream<Part, Part> stream, std::function<void(const absl::Status&)> done)
      : stream_(std::move(stream)), done_(std::move(done)) {}

  void Start() {
    static_cast<void>(stream_.TryWrite(PartOf(1, 100)));
    ReadNext();
  }

 private:
  void ReadNext() {
    stream_.Read(part_, [self = shared_from_this()](bool read) {
      if (read) return self->ReadNext();
      self->stream_.Finish([self](const absl::Status& status) { self->done_(status); });
    });
  }

  BidiStream<Part, Part> stream_;
  Part part_;
  const std::function<void(const absl::Status&)> done_;
};

TEST_F(CancelMemoryTest, OfStreamsWithCallbacks) {
  ExpectNothingLeft([this](Round& round) {
    std::make_shared<CalledBack>(streams_stub_->PingPongLater(round.options),
                                 [&round](const absl::Status& status) { round.OnEnd(status); })
        ->Start();
  });
}

TEST_F(CancelMemoryTest, OfStreamsInCoroutines) {
  ExpectNothingLeft([this](Round& round) {
    auto call = [](StreamsStub& stub) -> Task<absl::Status> {
      BidiStream<Part, Part> stream = stub.PingPongLater();
      Part part = PartOf(1, 100);
      co_await stream.CoWrite(part);
      while (co_await stream.CoRead(part)) {
      }
      co_return co_await stream.CoFinish();
    };
    Spawn(channel_->loop(), call(*streams_stub_),
          [&round](const absl::Status& status) { round.OnEnd(status); },
          {.stop_token = round.options.stop_token});
  });
}

}  // namespace
}  // namespace ferry::test::e2e
