#include "ferry/benchmarks/beside_large.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/histogram.h"
#include "ferry/benchmarks/now.h"
#include "ferry/rpc/call_options.h"

namespace ferry::bench {
namespace {

constexpr int kCallsAlone = 5000;
constexpr int kCallsOfAFragment = 500;
// With what goes around them, the payloads of one whole fragment and of the greatest message that a server
// takes.
constexpr size_t kAround = 16;
constexpr size_t kFragment = 64 * 1024 - kAround;
constexpr size_t kLarge = 64 * 1024 * 1024 - kAround;

// The time that calls with requests of `payload` bytes take, one after the other.
absl::Status TimeRequests(EchoStub& stub, size_t payload, int calls, Histogram& times) {
  EchoRequest request;
  request.set_payload(std::string(payload, 'x'));
  EchoReply reply;
  for (int i = 0; i < calls; ++i) {
    const int64_t start = NowNanos();
    if (absl::Status status = stub.Absorb(request, reply, CallOptions()); !status.ok()) return status;
    times.Record(NowNanos() - start);
  }
  return absl::OkStatus();
}

// What calls take that nothing is beside, on a connection that has warmed up.
absl::Status TimeAlone(EchoStub& stub, const Work& work, Alone& alone) {
  Histogram warm_up, small, fragment;
  absl::Status status = TimeRequests(stub, work.payload, kCallsAlone, warm_up);
  if (status.ok()) status = TimeRequests(stub, work.payload, kCallsAlone, small);
  if (status.ok()) status = TimeRequests(stub, kFragment, kCallsOfAFragment, fragment);
  alone.p50_nanos = small.Percentile(0.5);
  alone.p99_nanos = small.Percentile(0.99);
  alone.fragment_nanos = fragment.Percentile(0.5) - alone.p50_nanos;
  return status;
}

// One large message after the other, in one direction, until told to stop.
absl::Status CallLarge(EchoStub& stub, Beside direction, const std::atomic<bool>& stop) {
  EchoRequest upload;
  if (direction == Beside::kUpload) upload.set_payload(std::string(kLarge, 'x'));
  ProduceRequest download;
  download.set_size(kLarge);
  EchoReply reply;
  // Relaxed: it says when to stop, and orders nothing.
  while (!stop.load(std::memory_order_relaxed)) {
    absl::Status status = direction == Beside::kUpload ? stub.Absorb(upload, reply, CallOptions())
                                                       : stub.Produce(download, reply, CallOptions());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunBesideLarge(EchoStub& stub, const Work& work, Meter& meter) {
  Alone alone;
  if (absl::Status status = TimeAlone(stub, work, alone); !status.ok()) return status;
  meter.SetAlone(alone);

  std::atomic<bool> stop{false};
  absl::Status of_large;
  std::thread large([&] { of_large = CallLarge(stub, work.beside, stop); });
  EchoRequest request;
  request.set_payload(std::string(work.payload, 'x'));
  EchoReply reply;
  absl::Status status;
  for (bool go_on = true; go_on;) {
    const int64_t start = NowNanos();
    status = stub.Absorb(request, reply, CallOptions());
    go_on = status.ok() && meter.GoOn(start, NowNanos());
  }
  stop.store(true, std::memory_order_relaxed);
  large.join();
  status.Update(of_large);
  return status;
}

}  // namespace ferry::bench
