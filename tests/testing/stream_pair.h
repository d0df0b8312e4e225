// Two connected byte streams of any kind.
#ifndef FERRY_TESTS_TESTING_STREAM_PAIR_H_
#define FERRY_TESTS_TESTING_STREAM_PAIR_H_

#include <memory>

#include "ferry/transport/byte_stream.h"

namespace ferry::test {

enum class StreamKind { kMemory, kTcp, kUnix };

// Ends that are connected to each other.
struct StreamPair {
  std::unique_ptr<transport::ByteStream> first;
  std::unique_ptr<transport::ByteStream> second;
};

// A pair that has carried nothing yet. Dies if the system refuses.
StreamPair NewStreamPair(StreamKind kind);

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_STREAM_PAIR_H_
