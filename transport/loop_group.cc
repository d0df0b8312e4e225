#include "ferry/transport/loop_group.h"

#include <sched.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/signals_blocked.h"

namespace ferry::transport {
namespace {

constexpr size_t kMaxThreadName = 15;

// The attributes a thread is created with, for as long as it takes.
class ThreadAttributes {
 public:
  ThreadAttributes() { pthread_attr_init(&attributes_); }
  ~ThreadAttributes() { pthread_attr_destroy(&attributes_); }
  ThreadAttributes(const ThreadAttributes&) = delete;
  ThreadAttributes& operator=(const ThreadAttributes&) = delete;

  // REQUIRES: 0 <= cpu < CPU_SETSIZE.
  void PinTo(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    pthread_attr_setaffinity_np(&attributes_, sizeof cpus, &cpus);
  }

  const pthread_attr_t* get() const { return &attributes_; }

 private:
  pthread_attr_t attributes_;
};

absl::Status CheckOptions(const LoopGroup::Options& options) {
  if (options.threads == 0)
    return absl::InvalidArgumentError("a loop group has 0 threads, it needs at least 1");
  for (const int cpu : options.cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) continue;
    return absl::InvalidArgumentError(absl::StrCat("processor is ", cpu, ", limit is ", CPU_SETSIZE - 1));
  }
  return absl::OkStatus();
}

}  // namespace

struct LoopGroup::Loops {
  std::shared_ptr<BufferPool> buffers;
  std::vector<std::unique_ptr<EventLoop>> loops;
};

// What a thread starts with.
struct LoopGroup::Thread {
  std::shared_ptr<Loops> loops;
  size_t index;
  std::string name;
};

absl::StatusOr<std::unique_ptr<LoopGroup>> LoopGroup::Create(const Options& options) {
  const absl::Status valid = CheckOptions(options);
  if (!valid.ok()) return valid;
  auto loops = std::make_shared<Loops>();
  loops->buffers = options.buffers;
  if (loops->buffers == nullptr) {
    loops->buffers = std::make_shared<BufferPool>(BufferPool::Options{.clock = options.clock});
  }
  for (size_t i = 0; i < options.threads; ++i) {
    auto loop = EventLoop::Create(
        {.clock = options.clock, .buffers = loops->buffers.get(), .poll_time = options.poll_time});
    if (!loop.ok()) return loop.status();
    loops->loops.push_back(*std::move(loop));
  }
  std::unique_ptr<LoopGroup> group(new LoopGroup(std::move(loops)));
  for (size_t i = 0; i < options.threads; ++i) {
    const absl::Status started = group->StartThread(i, options);
    if (!started.ok()) return started;
  }
  return group;
}

LoopGroup::LoopGroup(std::shared_ptr<Loops> loops) : loops_(std::move(loops)) {}

LoopGroup::~LoopGroup() {
  if (forked()) {
    static_cast<void>(std::make_unique<std::shared_ptr<Loops>>(loops_).release());
    return;
  }
  StopThreads();
}

bool LoopGroup::forked() const { return !loops_->loops.empty() && loop(0).fork_guard().forked(); }

void LoopGroup::Stop() {
  if (forked()) return;
  StopThreads();
  for (const std::unique_ptr<EventLoop>& loop : loops_->loops) loop->DropTasks();
}

void LoopGroup::StopThreads() {
  for (const std::unique_ptr<EventLoop>& loop : loops_->loops) loop->Stop();
  for (const pthread_t thread : threads_) {
    if (pthread_equal(thread, pthread_self())) {
      pthread_detach(thread);
    } else {
      pthread_join(thread, nullptr);
    }
  }
  threads_.clear();
}

void* LoopGroup::RunThread(void* thread) {
  const std::unique_ptr<Thread> self(static_cast<Thread*>(thread));
  pthread_setname_np(pthread_self(), self->name.c_str());
  self->loops->loops[self->index]->Run();
  return nullptr;
}

absl::Status LoopGroup::StartThread(size_t index, const Options& options) {
  const std::string number = absl::StrCat("-", index);
  const std::string name = options.name.substr(0, kMaxThreadName - number.size()) + number;
  ThreadAttributes attributes;
  std::string where;
  if (!options.cpus.empty()) {
    const int cpu = options.cpus[index % options.cpus.size()];
    attributes.PinTo(cpu);
    where = absl::StrCat(" on processor ", cpu);
  }
  auto start = std::make_unique<Thread>(Thread{loops_, index, name});
  SignalsBlocked blocked;
  pthread_t thread;
  const int error = pthread_create(&thread, attributes.get(), &RunThread, start.get());
  if (error != 0) return ErrorStatus(error, absl::StrCat("cannot start thread ", name, where));
  static_cast<void>(start.release());  // the thread owns it now
  threads_.push_back(thread);
  return absl::OkStatus();
}

size_t LoopGroup::size() const { return loops_->loops.size(); }

EventLoop& LoopGroup::loop(size_t i) const {
  FERRY_CHECK(i < size(), "no such loop");
  return *loops_->loops[i];
}

EventLoop& LoopGroup::Next() { return loop(next_.fetch_add(1, std::memory_order_relaxed) % size()); }

BufferPool& LoopGroup::buffers() const { return *loops_->buffers; }

}  // namespace ferry::transport
