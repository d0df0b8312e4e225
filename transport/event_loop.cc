#include "ferry/transport/event_loop.h"

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "ferry/transport/check.h"

namespace ferry::transport {

thread_local constinit EventLoop* EventLoop::current_ = nullptr;

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create(const Options& options) {
  absl::StatusOr<Epoll> epoll = Epoll::Create();
  if (!epoll.ok()) return epoll.status();
  absl::StatusOr<WakeUp> wake_up = WakeUp::Create();
  if (!wake_up.ok()) return wake_up.status();
  absl::StatusOr<WakeUp> own_turn = WakeUp::Create();
  if (!own_turn.ok()) return own_turn.status();
  const absl::Status watched = epoll->Add(wake_up->fd(), EPOLLIN | EPOLLET, nullptr);
  if (!watched.ok()) return watched;
  std::unique_ptr<BufferPool> own_buffers;
  if (options.buffers == nullptr) {
    own_buffers = std::make_unique<BufferPool>(BufferPool::Options{.clock = options.clock});
  }
  return std::unique_ptr<EventLoop>(new EventLoop(options, std::move(own_buffers), *std::move(epoll),
                                                  *std::move(wake_up), *std::move(own_turn)));
}

EventLoop::EventLoop(const Options& options, std::unique_ptr<BufferPool> own_buffers, Epoll epoll,
                     WakeUp wake_up, WakeUp own_turn)
    : clock_(options.clock),
      own_buffers_(std::move(own_buffers)),
      wake_up_(std::move(wake_up)),
      own_turn_(std::move(own_turn)),
      epoll_(std::move(epoll)),
      poll_policy_(options.poll_time),
      now_(ReadTime()),
      scratch_(kScratchBytes),
      blocks_(own_buffers_ != nullptr ? *own_buffers_ : *options.buffers),
      trim_timer_([this] { Trim(); }) {}

EventLoop::~EventLoop() {
  DropTasks();
  // Nobody can begin a visit now, and those under way have only to return.
  AwaitVisitors();
}

void EventLoop::AwaitVisitors() const {
  while (visitors_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void EventLoop::DropTasks() {
  // What tasks hold may belong to the loop.
  Turn turn(this);
  std::vector<Task> dropped;
  MutexLock lock(mutex_);
  dropping_ = true;
  dropped.swap(tasks_);
  dropped.insert(dropped.end(), std::make_move_iterator(owner_tasks_.begin()),
                 std::make_move_iterator(owner_tasks_.end()));
  owner_tasks_.clear();
  // Without the mutex: they may post more as they go.
  mutex_.Unlock();
  dropped.clear();
  mutex_.Lock();
}

void EventLoop::Run() {
  Turn turn(this);
  while (!stop_.exchange(false, std::memory_order_acquire)) {
    RunBatch(/*may_wait=*/true);
    if (!std::exchange(loan_requested_, false)) continue;
    lent_.store(true, std::memory_order_relaxed);
    Lend();
    lent_.store(false, std::memory_order_relaxed);
  }
}

// Lends the loop out, and returns when it is ours again.
void EventLoop::Lend() {
  // Before, for afterwards now_ is a guest's.
  last_guest_.store(now_.nanos, std::memory_order_relaxed);
  next_due_.store(timers_.next_due().nanos, std::memory_order_relaxed);
  const absl::Duration longest = poll_policy_.enabled() ? kLoanTime : kLongLoanTime;
  State expected = State::kRunning;
  if (!state_.compare_exchange_strong(expected, State::kFree, std::memory_order_acq_rel)) return;
  absl::Duration loan_time = kLoanTime;
  for (;;) {
    const Instant last_guest{last_guest_.load(std::memory_order_relaxed)};
    const Instant due{next_due_.load(std::memory_order_relaxed)};
    const absl::Duration rest = std::min(last_guest + loan_time, due) - clock_->Now();
    if (own_turn_.Await(std::max(rest, absl::ZeroDuration()))) return;
    const bool guests_come = last_guest_.load(std::memory_order_relaxed) != last_guest.nanos;
    const bool timer_is_due = Instant{next_due_.load(std::memory_order_relaxed)} <= clock_->Now();
    // Each look costs a system call.
    loan_time = std::min(2 * loan_time, longest);
    if (guests_come && !timer_is_due) continue;
    expected = State::kFree;
    if (state_.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel)) {
      // A guest would have run the timers too.
      loan_requested_ = guests_come;
      return;
    }
    // A guest is there, and has been for long.
    if (own_turn_.Await(kLongLoanTime)) return;
  }
}

void EventLoop::RequestLoan() {
  AssertInLoop();
  loan_requested_ = true;
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
  if (fork_guard_.forked()) return;
  Visit visit(this);
  {
    MutexLock lock(mutex_);
    if (dropping_) return;  // the task is destroyed once the mutex is free: it is the caller's
    tasks_.push_back(std::move(task));
  }
  Wake();
}

void EventLoop::PostToOwner(Task task) {
  if (fork_guard_.forked()) return;
  Visit visit(this);
  {
    MutexLock lock(mutex_);
    if (dropping_) return;
    owner_tasks_.push_back(std::move(task));
    owner_wanted_.store(true, std::memory_order_relaxed);
  }
  Wake();
}

void EventLoop::Wake() {
  switch (state_.exchange(State::kWorkPosted)) {
    case State::kAsleep:
      return wake_up_.Signal();
    case State::kFree:
      return own_turn_.Signal();
    case State::kRunning:
    case State::kWorkPosted:
      return;
  }
}

// ---------------------------------------------------------------- Guests

EventLoop::Guest::Guest(EventLoop& loop) : loop_(loop) {
  visit_.emplace(&loop);
  State expected = State::kFree;
  if (!loop.state_.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel)) {
    visit_.reset();
    return;
  }
  turn_.emplace(&loop);
  loop.run_by_guest_ = true;
  loop.now_ = loop.ReadTime();
  const int64_t last_guest = loop.last_guest_.load(std::memory_order_relaxed);
  loop.last_guest_.store(loop.now_.nanos, std::memory_order_relaxed);
  // Nobody has looked for a while: a connection may have ended.
  if (Instant{last_guest} + kTrustTime < loop.now_) loop.RunBatch(/*may_wait=*/false);
}

EventLoop::Guest::~Guest() {
  if (entered()) Leave([] { return false; });
}

void EventLoop::Guest::Leave(absl::FunctionRef<bool()> wanted) {
  // Our last batch may have seen them posted, and gone on.
  if (loop_.owner_wanted_.load(std::memory_order_relaxed)) return HandBack();
  loop_.run_by_guest_ = false;
  loop_.last_guest_.store(loop_.now_.nanos, std::memory_order_relaxed);
  loop_.next_due_.store(loop_.timers_.next_due().nanos, std::memory_order_relaxed);
  turn_.reset();
  State expected = State::kRunning;
  if (!loop_.state_.compare_exchange_strong(expected, State::kFree)) {
    loop_.own_turn_.Signal();
  } else if (wanted()) {
    loop_.EnsureRun();
  }
  visit_.reset();
}

bool EventLoop::Guest::RunUntil(absl::FunctionRef<bool()> done) {
  FERRY_CHECK(entered(), "a guest that was not let in runs the loop");
  // What was begun before this is flushed before anything is waited for.
  loop_.RunHooks();
  while (!done()) {
    if (loop_.owner_wanted_.load(std::memory_order_relaxed)) return false;
    loop_.RunBatch(/*may_wait=*/true);
  }
  return true;
}

void EventLoop::Guest::HandBack() {
  loop_.run_by_guest_ = false;
  turn_.reset();
  loop_.state_.store(State::kWorkPosted);
  loop_.own_turn_.Signal();
  visit_.reset();
}

// ---------------------------------------------------------------- Batches

absl::Status EventLoop::Watch(const FileDescriptor& fd, uint32_t events, Handler& handler) {
  AssertInLoop();
  return epoll_.Add(fd, events, &handler);
}

void EventLoop::Unwatch(const FileDescriptor& fd, Handler& handler) {
  AssertInLoop();
  epoll_.Remove(fd);
  if (hot_ == &handler) hot_ = nullptr;
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
  bool busy = may_wait && poll_policy_.enabled() && Poll();
  if (!busy) {
    const size_t ready = WaitForEvents(may_wait);
    now_ = ReadTime();
    RunHandlers(ready);
    busy = ready > 0;
  }
  busy |= RunTimers();
  busy |= RunTasks();
  busy |= RunHooks();
  return busy;
}

// Looks for work again and again, if that is likely to pay; whether there was any.
bool EventLoop::Poll() {
  // Bounds a clock that stands still.
  constexpr int kMaxTries = 10'000;
  Instant now = ReadTime();
  const int64_t nanos = poll_policy_.Begin(now.nanos, now.nanos - now_.nanos);
  if (nanos == 0) return false;
  const Instant until = std::min(Instant{now.nanos + nanos}, timers_.next_due());
  for (int tries = 0;; ++tries) {
    const Instant before = std::exchange(now_, now);
    if (tries > 0 && !poll_policy_.GoesOn(before.nanos, now.nanos)) return false;
    if (PollOnce() || state_.load(std::memory_order_relaxed) == State::kWorkPosted) {
      poll_policy_.Found();
      return true;
    }
    if (now >= until || tries == kMaxTries) break;
    // Whom we wait for may need this very processor.
    std::this_thread::yield();
    now = ReadTime();
  }
  poll_policy_.Missed();
  return false;
}

// Asks the one handler that has been busy, which costs a system call less, or all of them.
bool EventLoop::PollOnce() {
  if (hot_ != nullptr && ++polls_ % 8 != 0 && hot_->pollable()) return hot_->OnPoll();
  const size_t ready = epoll_.Wait(absl::MakeSpan(events_), 0);
  RunHandlers(ready);
  return ready > 0;
}

// Everything about waiting, and nothing else, happens here.
size_t EventLoop::WaitForEvents(bool may_wait) {
  absl::Span<epoll_event> events = absl::MakeSpan(events_);
  if (!trim_timer_.armed() && !blocks_.empty()) timers_.Arm(trim_timer_, now_ + blocks_.pool().max_age());
  const int64_t sleep = may_wait ? NanosToSleep() : 0;
  if (sleep == 0) return epoll_.Wait(events, 0);

  State expected = State::kRunning;
  const bool asleep = state_.compare_exchange_strong(expected, State::kAsleep, std::memory_order_acq_rel);
  if (!asleep) return epoll_.Wait(events, 0);
  const size_t ready = epoll_.Wait(events, sleep);
  expected = State::kAsleep;
  state_.compare_exchange_strong(expected, State::kRunning, std::memory_order_acq_rel);
  return ready;
}

// Gives what was kept and not used for a while back to the heap. What the loop's own cache holds ages from
// now on.
void EventLoop::Trim() {
  blocks_.Flush();
  blocks_.pool().Trim();
  if (blocks_.pool().stats().kept_bytes == 0) return;
  timers_.Arm(trim_timer_, now_ + blocks_.pool().max_age());
}

int64_t EventLoop::NanosToSleep() {
  // What is due later than this need not be known exactly: the loop wakes that much early and looks again.
  constexpr int64_t kFar = 1'000'000'000;
  const Instant due = timers_.next_due();
  if (due == Instant::Infinite()) return Epoll::kForever;
  // now_ is too old by the length of the batch.
  const int64_t nanos = due.nanos - now_.nanos;
  if (nanos > 2 * kFar) return nanos - kFar;
  return nanos <= 0 ? 0 : std::max<int64_t>(due.nanos - clock_->Now().nanos, 0);
}

void EventLoop::RunHandlers(size_t ready) {
  events_to_come_ = absl::MakeSpan(events_.data(), ready);
  if (ready > 0) {
    Handler* first = static_cast<Handler*>(events_.front().data.ptr);
    hot_ = ready == 1 && first != nullptr && first->pollable() ? first : nullptr;
  }
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
    MutexLock lock(mutex_);
    running_.swap(tasks_);
    if (!run_by_guest_ && !owner_tasks_.empty()) {
      running_.insert(running_.end(), std::make_move_iterator(owner_tasks_.begin()),
                      std::make_move_iterator(owner_tasks_.end()));
      owner_tasks_.clear();
      owner_wanted_.store(false, std::memory_order_relaxed);
    }
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
