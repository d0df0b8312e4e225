// Frame headers, written and read: for each call twice on each side.
#include <benchmark/benchmark.h>

#include <string>

#include "absl/strings/string_view.h"
#include "ferry/benchmarks/allocations.h"
#include "ferry/transport/check.h"
#include "ferry/transport/frame.h"

namespace ferry::bench {
namespace {

using transport::FrameHeader;
using transport::FrameType;

constexpr size_t kMessage = 64;

FrameHeader NewHeader(uint32_t slot) {
  return FrameHeader{.length = transport::kRequestPrefixSize + kMessage,
                     .type = FrameType::kRequest,
                     .flags = transport::kEndStream,
                     .attr = 0,
                     .head = 0,
                     .stream = transport::StreamId::Make(slot, 1)};
}

void BM_EncodeHeader(benchmark::State& state) {
  char bytes[transport::kFrameHeaderSize];
  uint32_t slot = 0;
  AllocationCount count(state);
  for (auto _ : state) {
    transport::EncodeFrameHeader(NewHeader(++slot % 128), bytes);
    benchmark::DoNotOptimize(bytes);
  }
}
BENCHMARK(BM_EncodeHeader);

void BM_DecodeAndValidateHeader(benchmark::State& state) {
  char bytes[transport::kFrameHeaderSize];
  transport::EncodeFrameHeader(NewHeader(1), bytes);
  const transport::FrameLimits limits;
  AllocationCount count(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(bytes);
    const FrameHeader header = transport::DecodeFrameHeader(bytes);
    FERRY_CHECK(transport::ValidateFrameHeader(header, limits).ok(), "bad header");
  }
}
BENCHMARK(BM_DecodeAndValidateHeader);

// As many frames of 64-byte requests as a batch holds; the time is one frame's.
void BM_TakeFrame(benchmark::State& state) {
  std::string batch;
  const uint32_t frames = static_cast<uint32_t>(state.range(0));
  for (uint32_t slot = 0; slot < frames; ++slot) {
    char bytes[transport::kFrameHeaderSize];
    transport::EncodeFrameHeader(NewHeader(slot), bytes);
    batch.append(bytes, sizeof(bytes)).append(transport::kRequestPrefixSize + kMessage, 'x');
  }
  const transport::FrameLimits limits;
  absl::string_view input;
  AllocationCount count(state);
  for (auto _ : state) {
    if (input.empty()) input = batch;
    const auto frame = transport::TakeFrame(&input, limits);
    FERRY_CHECK(frame.ok() && frame->has_value(), "no frame");
    benchmark::DoNotOptimize(frame);
  }
}
BENCHMARK(BM_TakeFrame)->Arg(1)->Arg(128);

}  // namespace
}  // namespace ferry::bench
