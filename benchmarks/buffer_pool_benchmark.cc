// Blocks from the pool, from a loop's own cache, and from the heap.
#include <benchmark/benchmark.h>

#include <memory>

#include "ferry/benchmarks/allocations.h"
#include "ferry/transport/buffer_pool.h"

namespace ferry::bench {
namespace {

using transport::Block;
using transport::BlockCache;
using transport::BufferPool;

void BM_Heap(benchmark::State& state) {
  AllocationCount count(state);
  for (auto _ : state) {
    const auto memory = std::make_unique_for_overwrite<char[]>(static_cast<size_t>(state.range(0)));
    benchmark::DoNotOptimize(memory.get());
  }
}
BENCHMARK(BM_Heap)->Arg(4096)->Arg(65536)->Arg(1 << 20);

void BM_Pool(benchmark::State& state) {
  BufferPool pool;
  pool.Allocate(static_cast<size_t>(state.range(0)));
  AllocationCount count(state);
  for (auto _ : state) {
    const Block block = pool.Allocate(static_cast<size_t>(state.range(0)));
    benchmark::DoNotOptimize(block.data());
  }
}
BENCHMARK(BM_Pool)->Arg(4096)->Arg(65536)->Arg(1 << 20);

void BM_Cache(benchmark::State& state) {
  BufferPool pool;
  BlockCache cache(pool);
  BlockCache::Binding binding(cache);
  cache.Allocate(static_cast<size_t>(state.range(0)));
  AllocationCount count(state);
  for (auto _ : state) {
    const Block block = cache.Allocate(static_cast<size_t>(state.range(0)));
    benchmark::DoNotOptimize(block.data());
  }
}
BENCHMARK(BM_Cache)->Arg(4096)->Arg(65536)->Arg(1 << 20);

}  // namespace
}  // namespace ferry::bench
