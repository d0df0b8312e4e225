#include "ferry/transport/timer_queue.h"

#include "ferry/transport/check.h"

namespace ferry::transport {

Timer::~Timer() {
  if (queue_ != nullptr) queue_->Cancel(*this);
}

TimerQueue::~TimerQueue() {
  for (const Entry& entry : heap_) Disarm(*entry.timer);
}

void TimerQueue::Arm(Timer& timer, Instant due) {
  Cancel(timer);
  timer.queue_ = this;
  timer.due_ = due;
  ++size_;
  heap_.push_back({});
  SiftUp(heap_.size() - 1, {due, &timer});
}

void TimerQueue::Cancel(Timer& timer) {
  if (!timer.armed()) return;
  FERRY_CHECK(timer.queue_ == this, "a timer is armed in another queue");
  if (timer.running_) {
    running_[timer.index_] = nullptr;
  } else {
    TakeFromHeap(timer.index_);
  }
  Disarm(timer);
}

Instant TimerQueue::next_due() const { return heap_.empty() ? Instant::Infinite() : heap_.front().due; }

Timer* TimerQueue::PopDue(Instant now) {
  if (heap_.empty() || heap_.front().due > now) return nullptr;
  Timer* timer = heap_.front().timer;
  TakeFromHeap(0);
  Disarm(*timer);
  return timer;
}

void TimerQueue::RunDue(Instant now) {
  FERRY_CHECK(running_.empty(), "RunDue was called by a timer");
  while (!heap_.empty() && heap_.front().due <= now) {
    Timer* timer = heap_.front().timer;
    TakeFromHeap(0);
    timer->running_ = true;
    timer->index_ = running_.size();
    running_.push_back(timer);
  }
  for (Timer*& slot : running_) {
    if (slot == nullptr) continue;
    Timer* timer = slot;
    slot = nullptr;
    Disarm(*timer);
    timer->on_due_();
  }
  running_.clear();
}

void TimerQueue::Place(size_t index, Entry entry) {
  heap_[index] = entry;
  entry.timer->index_ = index;
}

void TimerQueue::SiftUp(size_t index, Entry entry) {
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (heap_[parent].due <= entry.due) break;
    Place(index, heap_[parent]);
    index = parent;
  }
  Place(index, entry);
}

void TimerQueue::SiftDown(size_t index, Entry entry) {
  for (;;) {
    size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].due < heap_[child].due) ++child;
    if (entry.due <= heap_[child].due) break;
    Place(index, heap_[child]);
    index = child;
  }
  Place(index, entry);
}

void TimerQueue::TakeFromHeap(size_t index) {
  const Entry last = heap_.back();
  heap_.pop_back();
  if (index == heap_.size()) return;
  if (index > 0 && last.due < heap_[(index - 1) / 2].due) {
    SiftUp(index, last);
  } else {
    SiftDown(index, last);
  }
}

void TimerQueue::Disarm(Timer& timer) {
  timer.queue_ = nullptr;
  timer.running_ = false;
  --size_;
}

}  // namespace ferry::transport
