// One call after the other, without sockets: from the stub through both loops to the handler and back.
#include <benchmark/benchmark.h>

#include <string>
#include <utility>

#include "benchmarks/echo.ferry.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/allocations.h"
#include "ferry/benchmarks/echo_service.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/check.h"
#include "ferry/transport/loop_group.h"

namespace ferry::bench {
namespace {

// Client and server share one loop: what a call costs in instructions, and two hand-offs between the caller's
// thread and the loop's.
void BM_InProcessCall(benchmark::State& state) {
  auto loops = transport::LoopGroup::Create({.threads = 1});
  FERRY_CHECK(loops.ok(), "no loop");
  EchoHandlers handlers;
  Server server(ServerOptions{.loops = loops->get()});
  server.Register(handlers);
  auto channel = CreateInProcessChannel(server, ChannelOptions{.loops = loops->get()});
  FERRY_CHECK(channel.ok(), "no channel");
  EchoStub stub(**channel);
  EchoRequest request;
  request.set_payload(std::string(64, 'x'));
  EchoReply reply;
  for (int i = 0; i < 100; ++i) FERRY_CHECK(stub.Echo(request, reply).ok(), "a call failed");
  AllocationCount count(state);
  for (auto _ : state) {
    FERRY_CHECK(stub.Echo(request, reply).ok(), "a call failed");
  }
}
BENCHMARK(BM_InProcessCall)->UseRealTime();

}  // namespace
}  // namespace ferry::bench
