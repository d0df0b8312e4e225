// What the tests of an event loop's guests stand on.
#ifndef FERRY_TESTS_TRANSPORT_EVENT_LOOP_GUEST_FIXTURE_H_
#define FERRY_TESTS_TRANSPORT_EVENT_LOOP_GUEST_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "absl/synchronization/notification.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/posix.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"
#include "tests/transport/event_loop_fixture.h"

namespace ferry::transport {

using Guest = EventLoop::Guest;

// A GuestTest has a loop with a thread of its own that lends it out when it is asked to.
//
// Thread-compatible.
class GuestTest : public ::testing::Test {
 protected:
  ~GuestTest() override {
    loop_->Stop();
    if (thread_.joinable()) thread_.join();
  }

  // Runs `task` on the loop and waits for it. Not for a guest.
  void Await(std::function<void()> task) {
    absl::Notification done;
    loop_->Post([&] {
      task();
      done.Notify();
    });
    done.WaitForNotification();
  }

  // Has the loop lend itself until this thread is its guest.
  std::unique_ptr<Guest> Enter() {
    for (;;) {
      Await([this] { loop_->RequestLoan(); });
      for (int tries = 0; tries < 10'000; ++tries) {
        auto guest = std::make_unique<Guest>(*loop_);
        if (guest->entered()) return guest;
        std::this_thread::yield();
      }
    }
  }

  // Tells `seen` on which thread it was called.
  std::function<void()> Tell(std::promise<std::thread::id>& seen) {
    return [&seen] { seen.set_value(std::this_thread::get_id()); };
  }

  // A descriptor of which the loop tells `seen` on which thread it was noticed.
  void Watch(std::promise<std::thread::id>& seen) {
    handler_.emplace([this, &seen](uint32_t) {
      loop_->Unwatch(wake_up_.fd(), *handler_);
      seen.set_value(std::this_thread::get_id());
    });
    Await([this] { ASSERT_TRUE(loop_->Watch(wake_up_.fd(), EPOLLIN | EPOLLET, *handler_).ok()); });
  }

  const WakeUp wake_up_ = *WakeUp::Create();
  std::optional<FunctionHandler> handler_;
  std::unique_ptr<EventLoop> loop_ = test::NewLoop();
  std::thread thread_{[this] { loop_->Run(); }};
  const std::thread::id own_ = thread_.get_id();
  const std::thread::id this_ = std::this_thread::get_id();
};

}  // namespace ferry::transport

#endif  // FERRY_TESTS_TRANSPORT_EVENT_LOOP_GUEST_FIXTURE_H_
