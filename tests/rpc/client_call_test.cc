#include "ferry/rpc/client_call.h"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/run_loop.h"

namespace ferry {
namespace {

using Call = BlockingCall<test::Text>;

// Ends calls on a thread of its own, as soon as they are handed over or a little later.
//
// Thread-compatible.
class Ender {
 public:
  ~Ender() {
    stop_.store(true);
    thread_.join();
  }

  // Ends `call` with ABORTED and `number`, after `yields` other threads have had their turn.
  void End(WaitedCall& call, int number, int yields) {
    number_ = number;
    yields_ = yields;
    call_.store(&call, std::memory_order_release);
  }

 private:
  void Run() {
    while (!stop_.load()) {
      WaitedCall* call = call_.exchange(nullptr, std::memory_order_acquire);
      if (call == nullptr) {
        std::this_thread::yield();
        continue;
      }
      for (int i = yields_; i > 0; --i) std::this_thread::yield();
      call->Complete(absl::AbortedError(absl::StrCat(number_)));
    }
  }

  std::atomic<WaitedCall*> call_{nullptr};
  // Written before call_, read after.
  int number_ = 0;
  int yields_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_{[this] { Run(); }};
};

TEST(WaitedCallTest, IsWaitedForHoweverItsEndComes) {
  const struct {
    const char* name;
    absl::Duration poll_time;
  } kCases[] = {
      {"blocks", absl::ZeroDuration()},
      {"polls a moment", absl::Nanoseconds(1)},
      {"polls about as long as it takes", absl::Microseconds(5)},
      {"polls long", absl::Seconds(10)},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    Ender ender;
    for (int i = 0; i < 5000; ++i) {
      // Gone as soon as it has ended.
      test::Text reply;
      Call call(reply);
      ender.End(call, i, i % 5);
      call.Wait(c.poll_time);
      ASSERT_TRUE(call.ended());
      ASSERT_EQ(call.TakeStatus(), absl::AbortedError(absl::StrCat(i)));
    }
  }
}

TEST(WaitedCallTest, DoesNotWaitForWhatHasEnded) {
  for (const absl::Duration poll_time : {absl::ZeroDuration(), absl::Seconds(10)}) {
    test::Text reply;
    Call call(reply);
    EXPECT_FALSE(call.ended());
    call.Complete(absl::OkStatus());
    EXPECT_TRUE(call.ended());
    call.Wait(poll_time);
    EXPECT_TRUE(call.TakeStatus().ok());
  }
}

// By the caller, so that no loop is held up.
TEST(BlockingCallTest, ReadsALargeReplyWhenItsCallerAsks) {
  transport::BufferPool pool;
  const auto block = [&](absl::string_view bytes) {
    transport::Block block = pool.Allocate(bytes.size());
    std::memcpy(block.data(), bytes.data(), bytes.size());
    return block;
  };
  test::Text reply;
  Call call(reply);
  EXPECT_TRUE(call.TakeLargeReply(block("\x0a\x03one"), 5));
  EXPECT_EQ(reply.text(), "");
  call.Complete(absl::OkStatus());
  EXPECT_TRUE(call.TakeStatus().ok());
  EXPECT_EQ(reply.text(), "one");

  Call bad(reply);
  EXPECT_TRUE(bad.TakeLargeReply(block("\x0a\xff"), 2));
  bad.Complete(absl::OkStatus());
  EXPECT_EQ(bad.TakeStatus(), absl::InternalError("response of 2 bytes does not parse"));
}

TEST(WaitedCallTest, HasTheLoopLendItselfWhenItEnds) {
  const std::unique_ptr<transport::EventLoop> loop = test::NewLoop();
  std::thread thread([&] { loop->Run(); });
  // The loan may be over before this thread comes.
  for (bool entered = false; !entered;) {
    test::Text reply;
    Call call(reply);
    call.LendWhenEnded(*loop);
    loop->Post([&] { call.Complete(absl::OkStatus()); });
    call.Wait(absl::ZeroDuration());
    for (int tries = 0; tries < 1000 && !entered; ++tries) {
      entered = transport::EventLoop::Guest(*loop).entered();
      std::this_thread::yield();
    }
  }
  loop->Stop();
  thread.join();
}

}  // namespace
}  // namespace ferry
