// Several threads that wait for blocking calls of one channel and run its loop among themselves.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"
#include "tests/end_to_end/watched_channel.h"
#include "tests/testing/plain_status.h"
#include "tests/testing/random.h"

namespace ferry::test::e2e {
namespace {

// So long that who follows does not stop.
const ChannelOptions kPollOn = {.poll_time = kLongTime};

// A call on a thread of its own, that the service holds.
class JoiningCall {
 public:
  JoiningCall(WatchedChannel& channel, TestConformance& service)
      : thread_([this, &channel] {
          status_ = channel.stub().Hold(Message()).status();
          read_by_caller_ = channel.ReadByThisThread();
        }),
        held_(service.TakeHeld()) {}

  void Finish() { std::move(held_).Finish(absl::OkStatus()); }
  const absl::Status& Wait() {
    thread_.join();
    return status_;
  }
  std::thread::id thread() const { return thread_.get_id(); }
  // After Wait.
  bool read_by_caller() const { return read_by_caller_; }

 private:
  absl::Status status_;
  bool read_by_caller_ = false;
  std::thread thread_;
  HeldCall held_;
};

class WaitingCallersTest : public testing::TestWithParam<const char*> {
 protected:
  Served served_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Transports, WaitingCallersTest, testing::Values("127.0.0.1:0", "unix"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param) == "unix" ? "Unix" : "Tcp";
                         });

TEST_P(WaitingCallersTest, WhoFollowsRunsTheLoopWhenTheLeaderHasItsReply) {
  // Not each time: the loop's own thread comes back when a follower is not scheduled for a while.
  EXPECT_TRUE(Eventually([this] {
    WatchedChannel channel(served_.address(), kPollOn);
    HeldLoneCall leader(channel, served_.service);
    JoiningCall follower(channel, served_.service);
    leader.Finish();
    EXPECT_TRUE(leader.Wait().ok());
    follower.Finish();
    EXPECT_TRUE(follower.Wait().ok());
    return follower.read_by_caller();
  }));
}

TEST_P(WaitingCallersTest, TheLeaderEndsTheCallsOfThoseWhoFollow) {
  WatchedChannel channel(served_.address(), kPollOn);
  HeldLoneCall leader(channel, served_.service);
  for (int i = 0; i < 20; ++i) {
    JoiningCall follower(channel, served_.service);
    follower.Finish();
    EXPECT_TRUE(follower.Wait().ok());
    EXPECT_FALSE(follower.read_by_caller());
  }
  leader.Finish();
  EXPECT_TRUE(leader.Wait().ok());
}

TEST_P(WaitingCallersTest, CallersMayEndInAnyOrder) {
  Random random;
  for (const absl::Duration poll_time : {absl::Microseconds(5), absl::Microseconds(50), kLongTime}) {
    for (int round = 0; round < 20; ++round) {
      WatchedChannel channel(served_.address(), {.poll_time = poll_time});
      HeldLoneCall leader(channel, served_.service);
      std::vector<std::unique_ptr<JoiningCall>> others;
      const size_t count = random.Number(1, 5);
      for (size_t i = 0; i < count; ++i) {
        others.push_back(std::make_unique<JoiningCall>(channel, served_.service));
      }
      const size_t before = random.Number(0, count);
      for (size_t i = 0; i < before; ++i) others[i]->Finish();
      leader.Finish();
      for (size_t i = count; i > before; --i) others[i - 1]->Finish();
      EXPECT_TRUE(leader.Wait().ok());
      for (const std::unique_ptr<JoiningCall>& other : others) EXPECT_TRUE(other->Wait().ok());
    }
  }
}

TEST_P(WaitingCallersTest, CallbacksAreRunWhileCallersWait) {
  WatchedChannel channel(served_.address(), kPollOn);
  HeldLoneCall leader(channel, served_.service);
  JoiningCall follower(channel, served_.service);
  Later<std::thread::id> ran;
  channel.stub().EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
    EXPECT_TRUE(reply.ok()) << reply.status();
    ran.Set(std::this_thread::get_id());
  });
  EXPECT_NE(ran.Wait(), leader.thread());
  EXPECT_NE(ran.Wait(), follower.thread());
  leader.Finish();
  follower.Finish();
  EXPECT_TRUE(leader.Wait().ok());
  EXPECT_TRUE(follower.Wait().ok());
}

TEST_P(WaitingCallersTest, DestroyingTheChannelEndsTheCallsOfAll) {
  for (const absl::Duration poll_time : {absl::Microseconds(50), kLongTime}) {
    for (int round = 0; round < 20; ++round) {
      WatchedChannel channel(served_.address(), {.poll_time = poll_time});
      HeldLoneCall leader(channel, served_.service);
      JoiningCall first(channel, served_.service);
      JoiningCall second(channel, served_.service);
      channel.Destroy();
      const absl::Status destroyed = absl::CancelledError("the channel was destroyed");
      EXPECT_EQ(Plain(leader.Wait()), destroyed);
      EXPECT_EQ(Plain(first.Wait()), destroyed);
      EXPECT_EQ(Plain(second.Wait()), destroyed);
    }
  }
}

TEST_P(WaitingCallersTest, TheServersEndEndsTheCallsOfAll) {
  WatchedChannel channel(served_.address(), kPollOn);
  HeldLoneCall leader(channel, served_.service);
  JoiningCall follower(channel, served_.service);
  served_.server.reset();
  EXPECT_EQ(leader.Wait().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(follower.Wait().code(), absl::StatusCode::kUnavailable);
}

TEST_P(WaitingCallersTest, CallersAndCallbacksGoTogether) {
  constexpr int kCallers = 3;
  constexpr uint64_t kCalls = 2'000;
  WatchedChannel channel(served_.address());
  std::array<std::thread, kCallers> callers;
  std::atomic<int> calling{kCallers};
  for (uint64_t caller = 0; caller < kCallers; ++caller) {
    callers[caller] = std::thread([&, caller] {
      for (uint64_t i = 0; i < kCalls; ++i) {
        const uint64_t id = caller << 32 | i;
        const absl::StatusOr<Message> reply = channel.stub().EchoInline(MessageOf(id, i % 300));
        EXPECT_TRUE(reply.ok() && reply->id() == id) << reply.status();
      }
      --calling;
    });
  }
  while (calling.load() > 0) {
    Later<bool> ended;
    channel.stub().EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& reply) {
      EXPECT_TRUE(transport::EventLoop::InAnyLoop());
      ended.Set(reply.ok());
    });
    EXPECT_TRUE(ended.Wait());
    // With time in between in which the callers have the channel for themselves.
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace ferry::test::e2e
