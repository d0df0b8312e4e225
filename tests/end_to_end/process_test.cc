// Processes that end, or fork, while calls are in flight; and what a signal does to a server.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
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
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/shutdown_signal.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
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

// A ServedStreams is a server whose methods stream, and a channel to it.
class ServedStreams {
 public:
  ServedStreams() : server({.threads = 1}) {
    server.Register(service);
    if (!server.Listen("127.0.0.1:0").ok()) std::abort();
    channel = ChannelTo(server.addresses().front());
    stub = std::make_unique<StreamsStub>(*channel);
  }

  TestStreams service;
  Server server;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<StreamsStub> stub;
};

// Whether the part of this id comes back: nothing but what was written here has reached the handler before.
bool ComesBack(BidiStream<Part, Part>& stream, uint64_t id) {
  Part reply;
  return stream.Write(PartOf(id, 10)) && stream.Read(reply) && reply.id() == id;
}

TEST(ForkTest, AParentsStreamFailsAtOnce) {
  ServedStreams served;
  BidiStream<Part, Part> stream = served.stub->PingPong();
  ASSERT_TRUE(ComesBack(stream, 1));
  const pid_t parent = getpid();
  EXPECT_EQ(0, InFork([&] {
              Part reply;
              const bool ended = !stream.Write(PartOf(8, 10)) && !stream.Read(reply) &&
                                 stream.TryWrite(PartOf(8, 10)) == WriteResult::kEnded &&
                                 stream.TryRead(reply) == ReadResult::kEnd && !stream.WritesDone();
              return ended && SaysForked(stream.Finish(), "channel", parent);
            }));
  EXPECT_TRUE(ComesBack(stream, 2));
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(ForkTest, AMessageThatHadComeIsTheParents) {
  ServedStreams served;
  BidiStream<Part, Part> stream = served.stub->PingPong();
  ASSERT_TRUE(stream.Write(PartOf(1, 10)));
  Later<bool> readable;
  stream.WhenReadable([&] { readable.Set(true); });
  ASSERT_TRUE(readable.Wait());
  EXPECT_EQ(0, InFork([&] {
              Part reply;
              return !stream.Read(reply);
            }));
  Part reply;
  EXPECT_TRUE(stream.Read(reply));
  EXPECT_EQ(reply.id(), 1);
}

TEST(ForkTest, AParentsStreamsCallbacksAreRunAtOnce) {
  ServedStreams served;
  BidiStream<Part, Part> stream = served.stub->PingPong();
  ClientStream<Part, Part> requests = served.stub->Collect();
  ASSERT_TRUE(ComesBack(stream, 1));
  const pid_t parent = getpid();
  EXPECT_EQ(0, InFork([&] {
              Part reply;
              bool good = true;
              int run = 0;
              const auto expect_false = [&](bool had) { good &= !had, ++run; };
              stream.Write(PartOf(8, 10), expect_false);
              stream.Read(reply, expect_false);
              stream.WhenReadable([&] { ++run; });
              stream.WhenWritable([&] { ++run; });
              stream.Finish([&](const absl::Status& status) {
                good &= SaysForked(status, "channel", parent);
                ++run;
              });
              requests.Finish([&](const absl::StatusOr<Part>& answer) {
                good &= SaysForked(answer.status(), "channel", parent);
                ++run;
              });
              return good && run == 6;
            }));
  EXPECT_TRUE(ComesBack(stream, 2));
  EXPECT_TRUE(requests.Finish().ok());
}

TEST(ForkTest, ACoroutineDoesNotWaitForAParentsStream) {
  ServedStreams served;
  BidiStream<Part, Part> stream = served.stub->PingPong();
  ASSERT_TRUE(ComesBack(stream, 1));
  const pid_t parent = getpid();
  EXPECT_EQ(0, InFork([&] {
              auto use = [](BidiStream<Part, Part>& parents) -> Task<absl::Status> {
                const Part request = PartOf(8, 10);
                if (co_await parents.CoWrite(request)) co_return absl::OkStatus();
                Part reply;
                if (co_await parents.CoRead(reply)) co_return absl::OkStatus();
                co_return co_await parents.CoFinish();
              };
              return SaysForked(BlockOn(served.channel->loop(), use(stream)), "channel", parent);
            }));
  EXPECT_TRUE(ComesBack(stream, 2));
}

TEST(ForkTest, DestroyingAParentsStreamsDoesNotReachTheServer) {
  ServedStreams served;
  auto stream = std::make_unique<BidiStream<Part, Part>>(served.stub->PingPong());
  auto ended = std::make_unique<ServerStream<Part>>(served.stub->Send(Part()));
  ASSERT_TRUE(ComesBack(*stream, 1));
  ASSERT_TRUE(ended->Finish().ok());
  EXPECT_EQ(0, InFork([&] {
              stream->Cancel();
              *stream = BidiStream<Part, Part>(nullptr);
              stream.reset();
              ended.reset();
              served.channel.reset();
              return true;
            }));
  EXPECT_TRUE(ComesBack(*stream, 2));
}

TEST(ForkTest, AParentsHandlersCallIsTheParentsToEnd) {
  Served served;
  Later<absl::StatusOr<Message>> ended;
  served.stub->Hold(Message(), {}, [&](absl::StatusOr<Message> reply) { ended.Set(std::move(reply)); });
  auto held = std::make_unique<HeldCall>(served.service.TakeHeld());
  EXPECT_EQ(0, InFork([&] {
              held.reset();
              return true;
            }));
  std::move(*held).Finish(absl::OkStatus());
  EXPECT_TRUE(ended.Wait().ok()) << ended.Wait().status();
}

TEST(ForkTest, AChildsOwnChannelCarriesStreams) {
  ServedStreams served;
  BidiStream<Part, Part> stream = served.stub->PingPong();
  ASSERT_TRUE(ComesBack(stream, 1));
  const std::string address = served.server.addresses().front();
#ifdef ABSL_HAVE_THREAD_SANITIZER
  GTEST_SKIP() << "threads cannot be started after fork";
#endif
  EXPECT_EQ(0, InFork([&] {
              const std::unique_ptr<Channel> channel = ChannelTo(address);
              StreamsStub stub(*channel);
              BidiStream<Part, Part> own = stub.PingPong();
              return ComesBack(own, 7) && own.Finish().ok();
            }));
  EXPECT_TRUE(ComesBack(stream, 2));
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

// Leaves streams open for exit, over a channel and a server in this process: in one a thread waits to read,
// in one a thread waits to write, and in one a coroutine waits.
[[noreturn]] void ExitWithStreamsOpen() {
  alarm(static_cast<unsigned>(absl::ToInt64Seconds(kLongTime)));
  // Nothing of it is ever destroyed.
  ServedStreams& served = *std::make_unique<ServedStreams>().release();
  auto& waiting = *std::make_unique<BidiStream<Part, Part>>(served.stub->PingPong()).release();
  auto& blocked = *std::make_unique<ClientStream<Part, Part>>(served.stub->CollectWhenTold()).release();
  if (!ComesBack(waiting, 1)) std::abort();
  std::thread([&] {
    Part part;
    static_cast<void>(waiting.Read(part));
    std::abort();
  }).detach();
  std::thread([&] {
    while (blocked.Write(PartOf(1, 100'000))) {
    }
    std::abort();
  }).detach();
  auto& coroutine_waits = *std::make_unique<Later<bool>>().release();
  auto use = [](StreamsStub& stub, Later<bool>& waits) -> Task<absl::Status> {
    BidiStream<Part, Part> stream = stub.PingPongLater();
    Part part;
    if (!co_await stream.CoWrite(part)) std::abort();
    if (!co_await stream.CoRead(part)) std::abort();
    waits.Set(true);
    if (!co_await stream.CoRead(part)) std::abort();
    co_return absl::OkStatus();
  };
  Spawn(served.channel->loop(), use(*served.stub, coroutine_waits),
        [](const absl::Status&) { std::abort(); });
  if (!coroutine_waits.Wait() || !served.service.WaitForBegun(1)) std::abort();
  std::exit(0);
}

TEST(ExitDeathTest, WithStreamsOpenAndACoroutineWaitingEndsWell) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(ExitWithStreamsOpen(), testing::ExitedWithCode(0), "");
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
