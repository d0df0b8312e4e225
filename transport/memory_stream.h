// Two ByteStreams joined by memory.
#ifndef FERRY_TRANSPORT_MEMORY_STREAM_H_
#define FERRY_TRANSPORT_MEMORY_STREAM_H_

#include <cstddef>
#include <memory>

#include "ferry/transport/byte_stream.h"

namespace ferry::transport {

// A MemoryStreamPair is the two ends of one flow: what one end writes, the other reads. Up to `capacity`
// bytes wait in each direction; a Write that finds no room answers kWouldBlock.
//
// As ByteStream says; the ends may belong to different loops. Both are called "in-process".
struct MemoryStreamPair {
  static constexpr size_t kDefaultCapacity = 64 * 1024;

  // REQUIRES: capacity > 0.
  static MemoryStreamPair Create(size_t capacity = kDefaultCapacity);

  std::unique_ptr<ByteStream> first;
  std::unique_ptr<ByteStream> second;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_MEMORY_STREAM_H_
