// Where one thread waits for another.
#ifndef FERRY_RPC_WAIT_POINT_H_
#define FERRY_RPC_WAIT_POINT_H_

#include <atomic>
#include <cstdint>

#include "absl/functional/any_invocable.h"

namespace ferry {

// A WaitPoint is where one thread waits until a waiter has been run, once, by any thread. It may live on the
// waiting thread's stack.
class WaitPoint {
 public:
  // REQUIRES: it is run, or Wait is not called.
  absl::AnyInvocable<void()> waiter() {
    return [this] {
      // The thread may be gone as soon as it sees this; what is left for notify_one is an address.
      done_.store(1, std::memory_order_release);
      done_.notify_one();
    };
  }

  void Wait() { done_.wait(0, std::memory_order_acquire); }

 private:
  std::atomic<uint32_t> done_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_WAIT_POINT_H_
