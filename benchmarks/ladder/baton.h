// Ways in which one thread tells another to go on.
#ifndef FERRY_BENCHMARKS_LADDER_BATON_H_
#define FERRY_BENCHMARKS_LADDER_BATON_H_

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "ferry/benchmarks/floor_wire.h"

namespace ferry::bench {

// Each baton: Pass lets one Take return. One thread passes, another takes.

class FutexBaton {
 public:
  void Pass() {
    word_.store(1, std::memory_order_release);
    syscall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
  void Take() {
    while (word_.exchange(0, std::memory_order_acquire) == 0) {
      syscall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
    }
  }

 private:
  // 1 while the baton lies there. Pass releases what Take acquires.
  std::atomic<uint32_t> word_{0};
};

class EventFdBaton {
 public:
  EventFdBaton() : fd_(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd")) {}
  ~EventFdBaton() { close(fd_); }
  EventFdBaton(const EventFdBaton&) = delete;
  EventFdBaton& operator=(const EventFdBaton&) = delete;

  void Pass() {
    const uint64_t one = 1;
    OrDie(static_cast<int>(write(fd_, &one, sizeof(one))), "write to an eventfd");
  }
  void Take() {
    uint64_t count;
    OrDie(static_cast<int>(read(fd_, &count, sizeof(count))), "read from an eventfd");
  }

 private:
  const int fd_;
};

// A queue behind a mutex, as thread pools have it.
class QueueBaton {
 public:
  void Pass() {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(1);
    }
    not_empty_.notify_one();
  }
  void Take() {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [this] { return !queue_.empty(); });
    queue_.pop_front();
  }

 private:
  std::mutex mutex_;
  std::condition_variable not_empty_;
  std::deque<int> queue_;
};

class SpinBaton {
 public:
  void Pass() { lies_there_.store(true, std::memory_order_release); }
  void Take() {
    PatientPoll poll;
    while (!lies_there_.exchange(false, std::memory_order_acquire)) poll.Asked(/*in_vain=*/true);
  }

 private:
  // Pass releases what Take acquires.
  alignas(64) std::atomic<bool> lies_there_{false};
};

// A Partner is a thread that passes the baton back whenever it gets it.
template <typename Baton>
class Partner {
 public:
  Partner() : thread_([this] { Run(); }) {}
  ~Partner() {
    stop_.store(true, std::memory_order_relaxed);
    there_.Pass();
    thread_.join();
  }
  Partner(const Partner&) = delete;
  Partner& operator=(const Partner&) = delete;

  // Two hand-overs.
  void ThereAndBack() {
    there_.Pass();
    back_.Take();
  }

 private:
  void Run() {
    for (;;) {
      there_.Take();
      if (stop_.load(std::memory_order_relaxed)) return;
      back_.Pass();
    }
  }

  Baton there_;
  Baton back_;
  std::atomic<bool> stop_{false};  // the baton orders it
  std::thread thread_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LADDER_BATON_H_
