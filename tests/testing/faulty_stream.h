// Byte streams that misbehave as told.
#ifndef FERRY_TESTS_TESTING_FAULTY_STREAM_H_
#define FERRY_TESTS_TESTING_FAULTY_STREAM_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "ferry/transport/byte_stream.h"

namespace ferry::test {

// A FaultyStream passes reads and writes on to another stream, and cuts, holds up or breaks them on the way.
//
// As ByteStream says; faults are changed while nothing reads or writes.
class FaultyStream final : public transport::ByteStream {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  struct Faults {
    // The most bytes that one Read, or one Write, moves.
    size_t max_read = std::numeric_limits<size_t>::max();
    size_t max_write = std::numeric_limits<size_t>::max();
    // Reads, or writes, answer kWouldBlock.
    bool stall_reads = false;
    bool stall_writes = false;
    // Once this many bytes were read, or written, the next try answers kFailed.
    uint64_t fail_reads_after = kNever;
    uint64_t fail_writes_after = kNever;
    // Once this many bytes were read the next Read answers kEnd.
    uint64_t end_reads_after = kNever;
  };

  FaultyStream(std::unique_ptr<ByteStream> stream, const Faults& faults)
      : stream_(std::move(stream)), faults_(faults) {}

  // From now on. The handler, if there is one already, is told that it may try again. On the loop, if Watch
  // was called.
  void SetFaults(const Faults& faults);

  absl::Status Watch(transport::EventLoop& loop, ReadyHandler& handler) override;
  transport::IoResult Read(absl::Span<const iovec> parts) override;
  transport::IoResult Write(absl::Span<const iovec> parts) override;
  void FinishWriting() override { stream_->FinishWriting(); }
  void Close() override;
  std::string peer() const override { return stream_->peer(); }

 private:
  const std::unique_ptr<ByteStream> stream_;
  Faults faults_;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_written_ = 0;
  ReadyHandler* handler_ = nullptr;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_FAULTY_STREAM_H_
