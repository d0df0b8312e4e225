// Work handed to a loop, by the loop itself and by another thread.
#include <benchmark/benchmark.h>

#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"
#include "ferry/benchmarks/allocations.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/loop_group.h"

namespace ferry::bench {
namespace {

using transport::EventLoop;
using transport::LoopGroup;

// Posts itself `left` times more, then notifies.
void PostAgain(EventLoop& loop, int64_t left, absl::Notification& done) {
  if (left == 0) return done.Notify();
  loop.Post([&loop, left, &done] { PostAgain(loop, left - 1, done); });
}

// A batch with one task: what a loop costs when there is always something to do.
void BM_PostFromItself(benchmark::State& state) {
  auto loops = LoopGroup::Create({});
  FERRY_CHECK(loops.ok(), "no loop");
  constexpr int64_t kTasks = 1000;
  for (auto _ : state) {
    absl::Notification done;
    PostAgain((*loops)->loop(0), kTasks, done);
    done.WaitForNotification();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * kTasks);
}
BENCHMARK(BM_PostFromItself)->UseRealTime();

// There and back: the loop sleeps when the task comes, the caller when the answer comes.
void BM_PostAndWait(benchmark::State& state) {
  auto loops = LoopGroup::Create({});
  FERRY_CHECK(loops.ok(), "no loop");
  AllocationCount count(state);
  for (auto _ : state) {
    absl::Notification done;
    (*loops)->loop(0).Post([&done] { done.Notify(); });
    done.WaitForNotification();
  }
}
BENCHMARK(BM_PostAndWait)->UseRealTime();

}  // namespace
}  // namespace ferry::bench
