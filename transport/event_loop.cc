#include "ferry/transport/event_loop.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "ferry/transport/check.h"

namespace ferry::transport {
namespace {

thread_local EventLoop* current_loop = nullptr;

}  // namespace

// While a Turn lives, the thread is the loop's.
class EventLoop::Turn {
 public:
  explicit Turn(EventLoop* loop) : previous_(std::exchange(current_loop, loop)), binding_(loop->blocks_) {}
  ~Turn() { current_loop = previous_; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  EventLoop* const previous_;
  BlockCache::Binding binding_;
};

// While a Visit lives, the loop does.
class EventLoop::Visit {
 public:
  explicit Visit(EventLoop* loop) : visitors_(loop->visitors_) {
    visitors_.fetch_add(1, std::memory_order_relaxed);
  }
  ~Visit() { visitors_.fetch_sub(1, std::memory_order_release); }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  std::atomic<int>& visitors_;
};

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create(const Options& options) {
  absl::StatusOr<Epoll> epoll = Epoll::Create();
  if (!epoll.ok()) return epoll.status();
  absl::StatusOr<WakeUp> wake_up = WakeUp::Create();
  if (!wake_up.ok()) return wake_up.status();
  const absl::Status watched = epoll->Add(wake_up->fd(), EPOLLIN | EPOLLET, nullptr);
  if (!watched.ok()) return watched;
  std::unique_ptr<BufferPool> own_buffers;
  if (options.buffers == nullptr) {
    own_buffers = std::make_unique<BufferPool>(BufferPool::Options{.clock = options.clock});
  }
  return std::unique_ptr<EventLoop>(
      new EventLoop(options, std::move(own_buffers), *std::move(epoll), *std::move(wake_up)));
}

EventLoop::EventLoop(const Options& options, std::unique_ptr<BufferPool> own_buffers, Epoll epoll,
                     WakeUp wake_up)
    : clock_(options.clock),
      own_buffers_(std::move(own_buffers)),
      wake_up_(std::move(wake_up)),
      epoll_(std::move(epoll)),
      now_(clock_->Now()),
      scratch_(kScratchBytes),
      blocks_(own_buffers_ != nullptr ? *own_buffers_ : *options.buffers) {}

EventLoop::~EventLoop() {
  DropTasks();
  // Nobody can begin a visit now, and those under way have only to return.
  while (visitors_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void EventLoop::DropTasks() {
  // What tasks hold may belong to the loop.
  Turn turn(this);
  std::vector<Task> dropped;
  absl::MutexLock lock(&mutex_);
  dropping_ = true;
  dropped.swap(tasks_);
  // Without the mutex: they may post more as they go.
  mutex_.Unlock();
  dropped.clear();
  mutex_.Lock();
}

void EventLoop::Run() {
  Turn turn(this);
  while (!stop_.exchange(false, std::memory_order_acquire)) RunBatch(/*may_wait=*/true);
}

void EventLoop::RunUntilIdle() {
  Turn turn(this);
  while (RunBatch(/*may_wait=*/false)) {
  }
}

void EventLoop::Stop() {
  Visit visit(this);
  stop_.store(true, std::memory_order_release);
  Wake();
}

void EventLoop::Post(Task task) {
  Visit visit(this);
  {
    absl::MutexLock lock(&mutex_);
    if (dropping_) return;  // the task is destroyed once the mutex is free: it is the caller's
    tasks_.push_back(std::move(task));
  }
  Wake();
}

void EventLoop::Wake() {
  if (state_.exchange(State::kWorkPosted, std::memory_order_acq_rel) == State::kAsleep) wake_up_.Signal();
}

bool EventLoop::InLoop() const { return current_loop == this; }

bool EventLoop::InAnyLoop() { return current_loop != nullptr; }

void EventLoop::AssertInLoop() const { FERRY_CHECK(InLoop(), "this belongs to another thread's event loop"); }

absl::Status EventLoop::Watch(const FileDescriptor& fd, uint32_t events, Handler& handler) {
  AssertInLoop();
  return epoll_.Add(fd, events, &handler);
}

void EventLoop::Unwatch(const FileDescriptor& fd, Handler& handler) {
  AssertInLoop();
  epoll_.Remove(fd);
  for (epoll_event& event : events_to_come_) {
    if (event.data.ptr == &handler) event.data.ptr = nullptr;
  }
}

void EventLoop::AddBatchHook(BatchHook& hook) {
  AssertInLoop();
  if (std::exchange(hook.added_, true)) return;
  hooks_.push_back(&hook);
}

void EventLoop::RemoveBatchHook(BatchHook& hook) {
  AssertInLoop();
  if (!std::exchange(hook.added_, false)) return;
  *std::find(hooks_.begin(), hooks_.end(), &hook) = nullptr;
}

// One round; says whether there was anything to do.
bool EventLoop::RunBatch(bool may_wait) {
  const size_t ready = WaitForEvents(may_wait);
  now_ = clock_->Now();
  RunHandlers(ready);
  bool busy = ready > 0;
  busy |= RunTimers();
  busy |= RunTasks();
  busy |= RunHooks();
  return busy;
}

// Everything about waiting, and nothing else, happens here.
size_t EventLoop::WaitForEvents(bool may_wait) {
  absl::Span<epoll_event> events = absl::MakeSpan(events_);
  const absl::Duration sleep = may_wait ? TimeToSleep() : absl::ZeroDuration();
  if (sleep <= absl::ZeroDuration()) return epoll_.Wait(events, absl::ZeroDuration());

  State expected = State::kRunning;
  const bool asleep = state_.compare_exchange_strong(expected, State::kAsleep, std::memory_order_acq_rel);
  if (!asleep) return epoll_.Wait(events, absl::ZeroDuration());
  const size_t ready = epoll_.Wait(events, sleep);
  expected = State::kAsleep;
  state_.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel);
  return ready;
}

absl::Duration EventLoop::TimeToSleep() {
  const Instant due = timers_.next_due();
  // now_ is too old by the length of the batch, but serves if even by that time the timer is due.
  if (due == Instant::Infinite() || due <= now_) return due - now_;
  return due - clock_->Now();
}

void EventLoop::RunHandlers(size_t ready) {
  events_to_come_ = absl::MakeSpan(events_.data(), ready);
  while (!events_to_come_.empty()) {
    const epoll_event event = events_to_come_.front();
    events_to_come_.remove_prefix(1);
    if (event.data.ptr != nullptr) static_cast<Handler*>(event.data.ptr)->OnEvents(event.events);
  }
}

bool EventLoop::RunTimers() {
  if (timers_.next_due() > now_) return false;
  timers_.RunDue(now_);
  return true;
}

bool EventLoop::RunTasks() {
  // Most batches have no task: this spares them the mutex. A Post after the exchange has the next batch look
  // again.
  if (state_.load(std::memory_order_relaxed) != State::kWorkPosted) return false;
  state_.exchange(State::kRunning, std::memory_order_acq_rel);
  {
    absl::MutexLock lock(&mutex_);
    running_.swap(tasks_);
  }
  const bool any = !running_.empty();
  for (Task& task : running_) {
    std::move(task)();
    task = nullptr;  // frees what it holds before the next runs
  }
  running_.clear();
  return any;
}

bool EventLoop::RunHooks() {
  const bool any = !hooks_.empty();
  // By index: hooks add hooks.
  for (size_t i = 0; i < hooks_.size(); ++i) {
    BatchHook* hook = std::exchange(hooks_[i], nullptr);
    if (hook == nullptr) continue;
    hook->added_ = false;
    hook->OnEndOfBatch();
  }
  hooks_.clear();
  return any;
}

}  // namespace ferry::transport
