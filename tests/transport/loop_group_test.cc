#include "ferry/transport/loop_group.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

// Runs `f` on the loop and waits for it.
template <typename F>
void RunOn(EventLoop& loop, F f) {
  absl::Notification done;
  loop.Post([&] {
    f();
    done.Notify();
  });
  done.WaitForNotification();
}

TEST(LoopGroupTest, RunsEachLoopOnANamedThread) {
  const auto group = *LoopGroup::Create({.threads = 2, .name = "test"});
  ASSERT_EQ(group->size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    RunOn(group->loop(i), [&] {
      EXPECT_TRUE(group->loop(i).InLoop());
      char name[16];
      ASSERT_EQ(pthread_getname_np(pthread_self(), name, sizeof name), 0);
      EXPECT_EQ(std::string(name), i == 0 ? "test-0" : "test-1");
    });
  }
}

TEST(LoopGroupTest, CutsLongThreadNamesBeforeTheNumber) {
  const auto group = *LoopGroup::Create({.name = "a-name-that-is-too-long"});
  RunOn(group->loop(0), [&] {
    char name[16];
    ASSERT_EQ(pthread_getname_np(pthread_self(), name, sizeof name), 0);
    EXPECT_EQ(std::string(name), "a-name-that-i-0");
  });
}

TEST(LoopGroupTest, GivesLoopsInTurn) {
  const auto group = *LoopGroup::Create({.threads = 3});
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(&group->Next(), &group->loop(i));
  }
}

TEST(LoopGroupTest, BlocksSignalsOnItsThreadsOnly) {
  const auto group = *LoopGroup::Create({});
  sigset_t blocked;
  RunOn(group->loop(0), [&] { pthread_sigmask(SIG_BLOCK, nullptr, &blocked); });
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 1);
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 0);
}

TEST(LoopGroupTest, PinsThreadsToProcessors) {
  const int here = sched_getcpu();
  const auto group = LoopGroup::Create({.cpus = {here}});
  ASSERT_TRUE(group.ok()) << group.status();
  RunOn((*group)->loop(0), [&] {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    ASSERT_EQ(pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus), 0);
    EXPECT_EQ(CPU_COUNT(&cpus), 1);
    EXPECT_TRUE(CPU_ISSET(here, &cpus));
  });
}

TEST(LoopGroupTest, RefusesBadOptions) {
  const struct {
    const char* name;
    LoopGroup::Options options;
    const char* message;
  } kCases[] = {
      {"no thread", {.threads = 0}, "a loop group has 0 threads, it needs at least 1"},
      {"a negative processor", {.cpus = {-1}}, "processor is -1, limit is 1023"},
      {"a processor over the limit", {.cpus = {1024}}, "processor is 1024, limit is 1023"},
      {"a processor that is not there",
       {.cpus = {1023}},
       "cannot start thread ferry-loop-0 on processor 1023: Invalid argument"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const auto group = LoopGroup::Create(c.options);
    EXPECT_EQ(group.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(group.status().message(), c.message);
  }
}

TEST(LoopGroupTest, SharesThePoolItIsGiven) {
  const auto pool = std::make_shared<BufferPool>();
  const auto group = *LoopGroup::Create({.buffers = pool});
  EXPECT_EQ(&group->buffers(), pool.get());
  EXPECT_EQ(&group->loop(0).blocks().pool(), pool.get());
}

TEST(LoopGroupTest, DropsTasksThatWereNotRunWhenItEnds) {
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> seen = held;
  auto group = *LoopGroup::Create({});
  EventLoop& loop = group->loop(0);
  loop.Post([&loop, held = std::move(held)] {
    loop.Stop();
    loop.Post([held] { FAIL(); });
  });
  group.reset();
  EXPECT_TRUE(seen.expired());
}

// Says when it is destroyed.
struct Bystander {
  explicit Bystander(absl::Notification* gone) : gone(gone) {}
  ~Bystander() { gone->Notify(); }
  absl::Notification* const gone;
};

TEST(LoopGroupTest, StoppedLoopsDropWhatIsPosted) {
  const auto group = *LoopGroup::Create({.threads = 2});
  const auto held = std::make_shared<int>(0);
  group->Stop();
  for (size_t i = 0; i < 2; ++i) group->loop(i).Post([held] { FAIL(); });
  EXPECT_EQ(held.use_count(), 1);
  group->Stop();
}

TEST(LoopGroupTest, MayBeDestroyedOnOneOfItsThreads) {
  for (size_t threads : {1, 3}) {
    SCOPED_TRACE(threads);
    absl::Notification loops_gone;
    auto group = *LoopGroup::Create({.threads = threads});
    EventLoop& loop = group->loop(0);
    loop.Post([&loop, &loops_gone, group = std::move(group)]() mutable {
      group.reset();
      // The loop goes on to the end of its batch, and takes what it did not run with it.
      EXPECT_TRUE(loop.InLoop());
      loop.Post([bystander = std::make_unique<Bystander>(&loops_gone)] { FAIL(); });
    });
    loops_gone.WaitForNotification();
  }
}

}  // namespace
}  // namespace ferry::transport
