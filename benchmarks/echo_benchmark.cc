// What Protocol Buffers themselves cost for the message of the load program: no way of carrying it can cost
// less.
#include <benchmark/benchmark.h>

#include <string>

#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/allocations.h"
#include "ferry/transport/check.h"

namespace ferry::bench {
namespace {

EchoRequest NewRequest(const benchmark::State& state) {
  EchoRequest request;
  request.set_payload(std::string(static_cast<size_t>(state.range(0)), 'x'));
  return request;
}

void BM_Serialize(benchmark::State& state) {
  const EchoRequest request = NewRequest(state);
  std::string bytes = request.SerializeAsString();
  AllocationCount count(state);
  for (auto _ : state) {
    FERRY_CHECK(request.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())), "does not fit");
    benchmark::DoNotOptimize(bytes.data());
  }
}
BENCHMARK(BM_Serialize)->Arg(64)->Arg(4096)->Arg(65536);

// Into a message that is used again, as servers and clients do.
void BM_Parse(benchmark::State& state) {
  const std::string bytes = NewRequest(state).SerializeAsString();
  EchoRequest request;
  FERRY_CHECK(request.ParseFromString(bytes), "does not parse");
  AllocationCount count(state);
  for (auto _ : state) {
    FERRY_CHECK(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())), "does not parse");
    benchmark::DoNotOptimize(request);
  }
}
BENCHMARK(BM_Parse)->Arg(64)->Arg(4096)->Arg(65536);

void BM_ParseIntoNewMessage(benchmark::State& state) {
  const std::string bytes = NewRequest(state).SerializeAsString();
  AllocationCount count(state);
  for (auto _ : state) {
    EchoRequest request;
    FERRY_CHECK(request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())), "does not parse");
    benchmark::DoNotOptimize(request);
  }
}
BENCHMARK(BM_ParseIntoNewMessage)->Arg(64)->Arg(4096)->Arg(65536);

}  // namespace
}  // namespace ferry::bench
