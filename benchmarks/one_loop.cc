// Client and server on one event loop, over a Unix socket: what a call costs in counts that do not depend on
// the machine's speed. Nothing ever has to wait for another thread, so the same calls do the same each time.
//
//   one_loop CALLS IN_FLIGHT [SERVERS]
//
// prints what a call cost once all was warm, a name and a number a line. With SERVERS the channel is one to a
// service of so many, all of which are this one. tests/benchmarks/call_cost_test.cc compares these with what
// is recorded, and has valgrind count the instructions.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "benchmarks/echo.ferry.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/echo_service.h"
#include "ferry/benchmarks/usage.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/loop_group.h"

namespace ferry::bench {
namespace {

constexpr int kWarmUp = 640;

// A Calls keeps calls in flight whose callbacks begin the next, until there were enough of them.
//
// Belongs to the loop while Run waits.
class Calls {
 public:
  Calls(EchoStub& stub, int calls, int in_flight) : stub_(stub), calls_(calls), replies_(in_flight) {
    request_.set_payload(std::string(64, 'x'));
  }

  // What `calls` calls used after kWarmUp others.
  Usage Run(transport::EventLoop& loop) {
    in_flight_ = replies_.size();
    // On the loop, which then finds them all together.
    loop.Post([this] {
      for (EchoReply& reply : replies_) Begin(reply);
    });
    all_ended_.WaitForNotification();
    return last_ - first_;
  }

 private:
  void Begin(EchoReply& reply) {
    stub_.Echo(request_, reply, {}, [this, &reply](const absl::Status& status) {
      FERRY_CHECK(status.ok() && reply.payload() == request_.payload(), "a call failed");
      End(reply);
    });
  }

  void End(EchoReply& reply) {
    ++ended_;
    if (ended_ == kWarmUp) first_ = Usage::SoFar();
    if (ended_ == kWarmUp + calls_) last_ = Usage::SoFar();
    if (ended_ < kWarmUp + calls_) {
      Begin(reply);
    } else if (--in_flight_ == 0) {
      all_ended_.Notify();
    }
  }

  EchoStub& stub_;
  const int calls_;
  EchoRequest request_;
  std::deque<EchoReply> replies_;
  size_t in_flight_ = 0;
  int ended_ = 0;
  Usage first_;
  Usage last_;
  absl::Notification all_ended_;
};

// Has `server` listen, and makes a channel to it: by its address, or as to `servers` others of a service.
std::unique_ptr<Channel> ChannelTo(Server& server, transport::LoopGroup& loops, int servers) {
  std::vector<std::string> addresses;
  for (int i = 0; i < std::max(servers, 1); ++i) {
    addresses.push_back(absl::StrCat("unix-abstract:ferry-one-loop-", getpid(), "-", i));
    FERRY_CHECK(server.Listen(addresses.back()).ok(), "cannot listen");
  }
  const std::string target =
      servers == 0 ? addresses.front() : absl::StrCat("list:///", absl::StrJoin(addresses, ","));
  auto channel = Channel::Create(target, {.loops = &loops});
  FERRY_CHECK(channel.ok(), "no channel");
  return *std::move(channel);
}

Usage Measure(int calls, int in_flight, int servers) {
  auto loops = transport::LoopGroup::Create({.threads = 1});
  FERRY_CHECK(loops.ok(), "no loop");
  EchoHandlers handlers;
  // However slow the processor is pretended to be, handlers stay on the loop.
  Server server({.loops = loops->get(), .inline_budget = absl::Hours(1)});
  server.Register(handlers);
  const std::unique_ptr<Channel> channel = ChannelTo(server, **loops, servers);
  EchoStub stub(*channel);
  return Calls(stub, calls, in_flight).Run((*loops)->loop(0));
}

void Print(int calls, const Usage& used) {
  const struct {
    const char* name;
    int64_t amount;
  } kCounts[] = {
      {"allocations", used.heap_allocations},
      {"system_calls", used.syscalls},
      {"waits", used.waits},
      {"reads", used.reads},
      {"writes", used.writes},
      {"wake_ups", used.wake_ups},
      {"bytes_on_the_wire", used.bytes_written},
  };
  for (const auto& count : kCounts)
    std::printf("%s %.3f\n", count.name, static_cast<double>(count.amount) / calls);
}

}  // namespace
}  // namespace ferry::bench

int main(int argc, char** argv) {
  const bool usable = argc == 3 || argc == 4;
  const int calls = usable ? std::atoi(argv[1]) : 0;
  const int in_flight = usable ? std::atoi(argv[2]) : 0;
  const int servers = argc == 4 ? std::atoi(argv[3]) : 0;
  if (calls < 1 || in_flight < 1 || servers < 0) {
    std::fprintf(stderr, "usage: one_loop CALLS IN_FLIGHT [SERVERS]\n");
    return 2;
  }
  ferry::bench::Print(calls, ferry::bench::Measure(calls, in_flight, servers));
  return 0;
}
