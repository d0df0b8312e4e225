// What ends in the middle of many calls.
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/concurrency_fixture.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/countdown.h"

namespace ferry::test::e2e {
namespace {

INSTANTIATE_TEST_SUITE_P(Transports, ConcurrencyTest, testing::ValuesIn(kTransports), NameOfTransport);

// Starts `count` calls to methods that answer, and to one that does not.
void StartCalls(ConformanceStub& stub, uint64_t count, Tally& tally, Countdown& ended) {
  for (uint64_t id = 0; id < count; ++id) {
    const auto done = [&tally, &ended, id](absl::StatusOr<Message> reply) {
      if (!reply.ok()) {
        ++tally.failed;
      } else {
        ++(reply->id() == id ? tally.right : tally.wrong);
      }
      ended.DecrementCount();
    };
    const Message request = MessageOf(id, SizeOf(id));
    if (id % 4 == 3) {
      stub.Hold(request, {}, done);
    } else {
      (stub.*kEchoes[id % 4].callback_fresh)(request, {}, done);
    }
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedWithCallsInFlight) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  for (int round = 0; round < 5; ++round) {
    Tally tally;
    Countdown ended(kCalls);
    std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    StartCalls(stub, kCalls, tally, ended);
    channel.reset();
    // Every callback has returned.
    EXPECT_EQ(tally.all(), static_cast<uint64_t>(kCalls));
    EXPECT_EQ(tally.wrong, 0u);
    EXPECT_GE(tally.failed, static_cast<uint64_t>(kCalls / 4));
    ended.Wait();
    EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedInsideItsCallback) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  for (int round = 0; round < 5; ++round) {
    Tally tally;
    Countdown ended(kCalls);
    absl::Notification destroyed;
    std::unique_ptr<Channel> channel = served.NewChannel();
    ConformanceStub stub(*channel);
    StartCalls(stub, kCalls, tally, ended);
    stub.EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
      channel.reset();
      destroyed.Notify();
    });
    Await(destroyed);
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; }));
    EXPECT_EQ(tally.wrong, 0u);
    ended.Wait();
  }
}

TEST_P(ConcurrencyTest, AChannelMayBeDestroyedInsideACallbackOfAnother) {
  constexpr int kCalls = 1'000;
  Served served(GetParam());
  Tally tally;
  Countdown ended(kCalls);
  absl::Notification destroyed;
  std::unique_ptr<Channel> channel = served.NewChannel();
  ConformanceStub stub(*channel);
  StartCalls(stub, kCalls, tally, ended);
  served.stub->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
    channel.reset();
    destroyed.Notify();
  });
  Await(destroyed);
  EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; }));
  EXPECT_EQ(tally.wrong, 0u);
  ended.Wait();
}

TEST_P(ConcurrencyTest, ChainedCallsEndWithTheirChannel) {
  // Callbacks go on starting calls while, and after, the channel ends those it has.
  constexpr uint64_t kCalls = 5'000;
  Served served(GetParam());
  std::unique_ptr<Channel> channel = served.NewChannel();
  ConformanceStub stub(*channel);
  Chains chains(stub, kCalls, 64);
  chains.Start();
  ASSERT_TRUE(Eventually([&] { return chains.tally().right > 100; }));
  channel.reset();
  EXPECT_EQ(chains.tally().all(), kCalls);
  EXPECT_EQ(chains.tally().wrong, 0u);
  EXPECT_EQ(chains.most_ends(), 1u);
}

TEST_P(ConcurrencyTest, AServerMayBeDestroyedWithCallsInFlight) {
  constexpr int kCalls = 1'000;
  if (std::string(GetParam()) == "in-process") GTEST_SKIP() << "the server must outlive the channel";
  for (int round = 0; round < 5; ++round) {
    Served served(GetParam());
    Tally tally;
    Countdown ended(kCalls);
    ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
    StartCalls(*served.stub, kCalls, tally, ended);
    ASSERT_TRUE(served.service.WaitForHeld(1));
    served.server.reset();
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; })) << tally.all();
    EXPECT_EQ(tally.wrong, 0u);
    ended.Wait();
    // Call objects are finished after the server is gone.
    HeldCall held = served.service.TakeHeld();
    EXPECT_TRUE(held.context().cancelled());
    std::move(held).Finish(absl::OkStatus());
  }
}

TEST_P(ConcurrencyTest, CallsMayBeFinishedWhileTheirServerIsDestroyed) {
  constexpr int kCalls = 200;
  if (std::string(GetParam()) == "in-process") GTEST_SKIP() << "the server must outlive the channel";
  for (int round = 0; round < 10; ++round) {
    Served served(GetParam());
    Tally tally;
    Countdown ended(kCalls);
    for (int i = 0; i < kCalls; ++i) {
      served.stub->Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
        ++(reply.ok() ? tally.right : tally.failed);
        ended.DecrementCount();
      });
    }
    ASSERT_TRUE(served.service.WaitForHeld(kCalls));
    std::thread finisher([&] {
      for (int i = 0; i < kCalls; ++i) served.service.TakeHeld().Finish(absl::OkStatus());
    });
    served.server.reset();
    finisher.join();
    EXPECT_TRUE(Eventually([&] { return tally.all() == kCalls; })) << tally.all();
    ended.Wait();
  }
}

}  // namespace
}  // namespace ferry::test::e2e
