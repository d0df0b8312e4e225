#include "ferry/benchmarks/caller_threads.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

namespace ferry::bench {
namespace {

// What the meter's caller tells the others. Relaxed: it says when to count, and orders nothing.
enum class Phase { kWarmUp, kMeasure, kOver };

// A Caller is one of the other threads, which keeps its own account.
struct Caller {
  BlockingEcho call;
  absl::Status status = {};
  int64_t calls = 0;
  Histogram latency = {};

  void Run(const std::atomic<Phase>& phase) {
    for (Phase at_start; (at_start = phase.load(std::memory_order_relaxed)) != Phase::kOver;) {
      const int64_t start = NowNanos();
      status = call();
      if (!status.ok()) return;
      if (phase.load(std::memory_order_relaxed) != Phase::kMeasure) continue;
      ++calls;
      if (at_start == Phase::kMeasure) latency.Record(NowNanos() - start);
    }
  }
};

absl::Status RunMetered(BlockingEcho call, std::atomic<Phase>& phase, Meter& meter) {
  for (int64_t start = NowNanos(), now = start;; start = now) {
    absl::Status status = call();
    if (!status.ok()) return status;
    now = NowNanos();
    if (!meter.GoOn(start, now)) return absl::OkStatus();
    if (meter.measuring()) phase.store(Phase::kMeasure, std::memory_order_relaxed);
  }
}

}  // namespace

absl::Status RunCallers(int threads, Meter& meter, absl::FunctionRef<BlockingEcho()> new_call) {
  std::atomic<Phase> phase{Phase::kWarmUp};
  std::deque<Caller> others;
  std::vector<std::thread> running;
  for (int i = 1; i < threads; ++i) {
    Caller& caller = others.emplace_back(Caller{.call = new_call()});
    running.emplace_back([&caller, &phase] { caller.Run(phase); });
  }
  absl::Status status = RunMetered(new_call(), phase, meter);
  phase.store(Phase::kOver, std::memory_order_relaxed);
  for (std::thread& thread : running) thread.join();
  for (const Caller& caller : others) {
    status.Update(caller.status);
    meter.Add(caller.calls, caller.latency);
  }
  return status;
}

}  // namespace ferry::bench
