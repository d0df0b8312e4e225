// Processes that end, or fork, while calls are in flight; and what a signal does to a server.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/base/config.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/shutdown_signal.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// Runs `run` in a process forked from this one; returns what waitpid says of its end. A child that hangs is
// killed by its alarm.
int InFork(absl::FunctionRef<bool()> run) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLongTime)));
    // Nothing of the parent's is destroyed here.
    _exit(run() ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// Whether `status` is what a call in a fork of the process `parent` ends with.
bool SaysForked(const absl::Status& status, std::string_view what, pid_t parent) {
  const std::string text =
      absl::StrCat("the ", std::string(what), " was created in process ", parent, ", this is process ",
                   getpid(), ": create ", std::string(what), "s after fork");
  const bool good = status.code() == StatusCode::kFailedPrecondition && status.message() == text;
  if (!good) std::fprintf(stderr, "not as it should be: %s\n", status.ToString().c_str());
  return good;
}

TEST(ForkTest, CallsOverAParentsChannelFailAtOnce) {
  Served served;
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  const pid_t parent = getpid();
  EXPECT_EQ(0, InFork([&] {
              bool good = SaysForked(served.stub->EchoInline(Message()).status(), "channel", parent);
              Message reply;
              good &= SaysForked(served.stub->EchoInline(Message(), reply), "channel", parent);
              int ended = 0;
              served.stub->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>& answer) {
                good &= SaysForked(answer.status(), "channel", parent);
                ++ended;
              });
              served.stub->EchoInline(Message(), reply, {}, [&](const absl::Status& status) {
                good &= SaysForked(status, "channel", parent);
                ++ended;
              });
              auto call = [](ConformanceStub& stub) -> Task<absl::Status> {
                co_return (co_await stub.CoEchoInline(Message())).status();
              };
              good &= SaysForked(BlockOn(served.channel->loop(), call(*served.stub)), "channel", parent);
              auto sleep = []() -> Task<absl::Status> { co_return co_await Sleep(absl::Hours(1)); };
              good &= SaysForked(BlockOn(served.channel->loop(), sleep()), "event loop", parent);
              ConformanceStub another(*served.channel);
              good &= SaysForked(another.EchoInline(Message()).status(), "channel", parent);
              return good && ended == 2;
            }));
  // The parent's goes on.
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
}

TEST(ForkTest, DestroyingAParentsChannelDoesNotReachTheServer) {
  Served served;
  Later<absl::StatusOr<Message>> ended;
  served.stub->Hold(Message(), {}, [&](absl::StatusOr<Message> reply) { ended.Set(std::move(reply)); });
  HeldCall held = served.service.TakeHeld();
  EXPECT_EQ(0, InFork([&] {
              served.channel.reset();
              return true;
            }));
  // The connection, and the call on it, are as they were.
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  EXPECT_FALSE(held.context().cancelled());
  std::move(held).Finish(absl::OkStatus());
  EXPECT_TRUE(ended.Wait().ok()) << ended.Wait().status();
}

TEST(ForkTest, AParentsServerAndLoopsAreOfNoUse) {
  auto loops = transport::LoopGroup::Create({.threads = 1});
  ASSERT_TRUE(loops.ok()) << loops.status();
  Served served("127.0.0.1:0", {.threads = 2}, {.loops = loops->get()});
  ASSERT_TRUE(served.stub->EchoInline(Message()).ok());
  const pid_t parent = getpid();
  EXPECT_EQ(0, InFork([&] {
              const bool good = SaysForked(served.server->Listen("127.0.0.1:0"), "server", parent) &&
                                SaysForked(served.stub->EchoInline(Message()).status(), "channel", parent);
              served.server->Shutdown(kLongTime);
              served.server.reset();
              served.channel.reset();
              loops->reset();
              return good;
            }));
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
}

TEST(ForkTest, AServerThatHasNotBegunMayBeginInTheFork) {
  TestConformance service;
  Server server({.threads = 1});
  server.Register(service);
#ifdef ABSL_HAVE_THREAD_SANITIZER
  GTEST_SKIP() << "threads cannot be started after fork";
#endif
  EXPECT_EQ(0, InFork([&] {
              if (!server.Listen("127.0.0.1:0").ok()) return false;
              const std::unique_ptr<Channel> channel = ChannelTo(server.addresses().front());
              return ConformanceStub(*channel).EchoInline(Message()).ok();
            }));
}

// ---------------------------------------------------------------- Exit

// Begins calls of every kind over a channel and a server in this process, and then exits.
[[noreturn]] void ExitWithCallsInFlight() {
  alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLongTime)));
  // Nothing of it is ever destroyed.
  Served& served = *std::make_unique<Served>().release();
  for (int i = 0; i < 2; ++i) {
    std::thread([&] { static_cast<void>(served.stub->WaitUntilCancelled(Message())); }).detach();
    std::thread([&] {
      for (;;) static_cast<void>(served.stub->EchoExecutor(Message()));
    }).detach();
  }
  served.stub->Hold(Message(), {}, [](const absl::StatusOr<Message>&) { std::abort(); });
  if (!served.service.WaitForWaiting(2) || !served.service.WaitForHeld(1)) std::abort();
  std::exit(0);
}

TEST(ExitDeathTest, WithCallsInFlightEndsWell) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(ExitWithCallsInFlight(), testing::ExitedWithCode(0), "");
}

// ---------------------------------------------------------------- Signals

// A server that drains at SIGTERM, and a client in the same process whose call is in flight then.
[[noreturn]] void DrainAtSigterm() {
  alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLongTime)));
  ShutdownSignal signal;
  Served served;
  Later<absl::StatusOr<Message>> ended;
  served.stub->Hold(Message(), {}, [&](absl::StatusOr<Message> reply) { ended.Set(std::move(reply)); });
  HeldCall held = served.service.TakeHeld();
  kill(getpid(), SIGTERM);
  if (signal.Wait() != SIGTERM) std::_Exit(2);
  std::thread finisher([&] {
    // Once the server refuses calls.
    if (!Eventually([&] { return !served.stub->EchoInline(Message()).ok(); })) std::_Exit(3);
    std::move(held).Finish(absl::OkStatus());
  });
  served.server->Shutdown(kLongTime);
  finisher.join();
  std::_Exit(ended.Wait().ok() ? 0 : 4);
}

TEST(SignalDeathTest, SigtermDrainsAServer) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(DrainAtSigterm(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ferry::test::e2e
