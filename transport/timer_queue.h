// Things that are due at given times.
#ifndef FERRY_TRANSPORT_TIMER_QUEUE_H_
#define FERRY_TRANSPORT_TIMER_QUEUE_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "ferry/transport/clock.h"

namespace ferry::transport {

class TimerQueue;

// A Timer is an entry of a TimerQueue, kept inside the object it is for, so that arming it allocates nothing.
//
// Belongs to its queue. A timer that is destroyed while armed leaves its queue.
class Timer {
 public:
  Timer() = default;
  // `on_due` runs each time the timer falls due under TimerQueue::RunDue; it may re-arm or destroy the timer.
  explicit Timer(absl::AnyInvocable<void()> on_due) : on_due_(std::move(on_due)) {}
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool armed() const { return queue_ != nullptr; }
  // When it falls due. REQUIRES: armed().
  Instant due() const { return due_; }

 private:
  friend class TimerQueue;
  TimerQueue* queue_ = nullptr;
  size_t index_ = 0;      // in the queue's heap_ or, if running_, in its running_
  bool running_ = false;  // taken out of the heap by a RunDue that has not come to it yet
  Instant due_;
  absl::AnyInvocable<void()> on_due_;
};

// A TimerQueue holds timers in the order they fall due. It never reads a clock: its owner says what time it
// is, so tests decide when timers fire.
//
// Thread-compatible. Arming, re-arming and cancelling cost O(log n) steps and, once the queue has grown to
// its greatest size, allocate nothing. Timers still armed when the queue is destroyed are disarmed.
class TimerQueue {
 public:
  TimerQueue() = default;
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // Makes `timer` fall due at `due`, instead of when it was due if it is armed in this queue already.
  // REQUIRES: it is not armed in another queue.
  void Arm(Timer& timer, Instant due);

  // Does nothing if `timer` is not armed. REQUIRES: it is not armed in another queue.
  void Cancel(Timer& timer);

  // When the first timer falls due; Infinite() if there is none.
  Instant next_due() const;

  // Takes out and returns the first timer that is due at `now`, or nullptr. Timers due at the same instant
  // come in no particular order. Does not run its callback.
  Timer* PopDue(Instant now);

  // Takes out every timer that is due at `now` and runs its callback. Timers that callbacks arm for `now` or
  // earlier wait for the next RunDue, so that this ends. REQUIRES: not called by a callback.
  void RunDue(Instant now);

  // Timers armed, those that a RunDue under way has yet to run among them.
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

 private:
  // The due time lies beside the pointer so that comparing touches no timer.
  struct Entry {
    Instant due;
    Timer* timer;
  };

  void Place(size_t index, Entry entry);
  void SiftUp(size_t index, Entry entry);
  void SiftDown(size_t index, Entry entry);
  void TakeFromHeap(size_t index);
  void Disarm(Timer& timer);

  size_t size_ = 0;
  std::vector<Entry> heap_;      // a binary heap, the first due on top
  std::vector<Timer*> running_;  // what RunDue is running; nullptr where a timer was run, moved or cancelled
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_TIMER_QUEUE_H_
