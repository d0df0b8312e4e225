// Where a coroutine waits for one thing to happen.
#ifndef FERRY_RPC_RESUMPTION_H_
#define FERRY_RPC_RESUMPTION_H_

#include <atomic>
#include <coroutine>

namespace ferry {

// A Resumption is a coroutine's wait for one event, which may come before the coroutine waits, on any thread.
//
// Thread-safe: Resume for one thread, once, the rest for the coroutine. Must live until Resume has been
// called; the coroutine, which may own it, runs on inside that call if it was waiting.
class Resumption {
 public:
  // Whether the event has come. Acquires what came before Resume.
  bool resumed() const { return state_.load(std::memory_order_acquire) == State::kResumed; }

  // Leaves `coroutine` to Resume; false if that has been called already: then the coroutine goes on. Nothing
  // of the coroutine may be touched after true.
  bool Suspend(std::coroutine_handle<> coroutine) {
    coroutine_ = coroutine;
    State expected = State::kRunning;
    // Releases coroutine_ to Resume; if that was first, acquires what it brought.
    return state_.compare_exchange_strong(expected, State::kSuspended, std::memory_order_acq_rel);
  }

  void Resume() {
    if (state_.exchange(State::kResumed, std::memory_order_acq_rel) == State::kSuspended) coroutine_.resume();
  }

 private:
  enum class State { kRunning, kSuspended, kResumed };

  std::coroutine_handle<> coroutine_;
  std::atomic<State> state_{State::kRunning};
};

}  // namespace ferry

#endif  // FERRY_RPC_RESUMPTION_H_
