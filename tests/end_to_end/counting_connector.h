// A connector whose streams count what goes through them.
#ifndef FERRY_TESTS_END_TO_END_COUNTING_CONNECTOR_H_
#define FERRY_TESTS_END_TO_END_COUNTING_CONNECTOR_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"

namespace ferry::test::e2e {

// What went through streams, and how often they were asked.
struct StreamCounters {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> bytes_read{0};
  std::atomic<uint64_t> bytes_written{0};
  // Reads that found the end, or failed.
  std::atomic<uint64_t> ends{0};
  // The thread of the last read that brought something.
  std::atomic<std::thread::id> reader{};
};

// A CountingStream is another stream that counts.
class CountingStream final : public transport::ByteStream {
 public:
  CountingStream(std::unique_ptr<transport::ByteStream> stream, StreamCounters& counters)
      : stream_(std::move(stream)), counters_(counters) {}

  absl::Status Watch(transport::EventLoop& loop, ReadyHandler& handler) override {
    return stream_->Watch(loop, handler);
  }
  transport::IoResult Read(absl::Span<const iovec> parts) override {
    transport::IoResult result = stream_->Read(parts);
    ++counters_.reads;
    counters_.bytes_read += result.bytes;
    if (result.bytes > 0) counters_.reader = std::this_thread::get_id();
    if (result.state == transport::IoResult::State::kEnd ||
        result.state == transport::IoResult::State::kFailed) {
      ++counters_.ends;
    }
    return result;
  }
  transport::IoResult Write(absl::Span<const iovec> parts) override {
    transport::IoResult result = stream_->Write(parts);
    ++counters_.writes;
    counters_.bytes_written += result.bytes;
    return result;
  }
  void FinishWriting() override { stream_->FinishWriting(); }
  void Close() override { stream_->Close(); }
  std::string peer() const override { return stream_->peer(); }

 private:
  const std::unique_ptr<transport::ByteStream> stream_;
  StreamCounters& counters_;
};

// A CountingConnector makes the connections of another and counts what goes through them. `counters` must
// outlive them.
class CountingConnector final : public transport::Connector {
 public:
  CountingConnector(std::unique_ptr<transport::Connector> connector, StreamCounters& counters)
      : connector_(std::move(connector)), counters_(counters) {}

  std::unique_ptr<Attempt> Connect(transport::EventLoop& loop, transport::Instant deadline,
                                   Callback done) override {
    return connector_->Connect(loop, deadline,
                               [this, done = std::move(done)](
                                   absl::StatusOr<std::unique_ptr<transport::ByteStream>> stream) mutable {
                                 if (stream.ok())
                                   stream = std::make_unique<CountingStream>(*std::move(stream), counters_);
                                 std::move(done)(std::move(stream));
                               });
  }

 private:
  const std::unique_ptr<transport::Connector> connector_;
  StreamCounters& counters_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_COUNTING_CONNECTOR_H_
