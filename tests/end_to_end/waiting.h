// Waits that end, so that what hangs fails.
#ifndef FERRY_TESTS_END_TO_END_WAITING_H_
#define FERRY_TESTS_END_TO_END_WAITING_H_

#include <optional>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/check.h"
#include "ferry/transport/clock.h"

namespace ferry::test::e2e {

// Longer than anything here takes, under a sanitizer and on a busy machine too.
inline constexpr absl::Duration kLongTime = absl::Seconds(50);

// Whether `condition` came true. For what the other side does and nobody tells of.
inline bool Eventually(absl::FunctionRef<bool()> condition) {
  const transport::Clock& clock = transport::Clock::Real();
  const transport::Instant give_up = clock.Now() + kLongTime;
  while (!condition()) {
    if (clock.Now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

// A Later is a value that another thread will set, once.
//
// Thread-safe.
template <typename T>
class Later {
 public:
  void Set(T value) {
    value_ = std::move(value);
    set_.Notify();
  }
  // Dies if it is not set for too long: what would set it may hold a reference to this.
  T& Wait() {
    FERRY_CHECK(set_.WaitForNotificationWithTimeout(kLongTime), "what was waited for did not happen");
    return *value_;
  }

 private:
  std::optional<T> value_;
  absl::Notification set_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_WAITING_H_
