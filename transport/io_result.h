// What a read or a write of a byte stream came to.
#ifndef FERRY_TRANSPORT_IO_RESULT_H_
#define FERRY_TRANSPORT_IO_RESULT_H_

#include <cstddef>
#include <utility>

#include "absl/status/status.h"

namespace ferry::transport {

// An IoResult is the outcome of one non-blocking read or write: a value.
struct IoResult {
  enum class State {
    kDone,        // `bytes`, more than 0, were moved
    kWouldBlock,  // nothing was moved; the stream's handler will be told when it is worth trying again
    kEnd,         // read only: the peer has finished writing, and everything it wrote has been read
    kFailed,      // the stream is broken; `status` says how
  };
  State state = State::kWouldBlock;
  size_t bytes = 0;
  absl::Status status;
  // After kDone: whether the next try may move more at once. False saves that try: the handler will be told.
  bool more = true;

  static IoResult Done(size_t bytes, bool more = true) {
    return {State::kDone, bytes, absl::OkStatus(), more};
  }
  static IoResult WouldBlock() { return {State::kWouldBlock, 0, absl::OkStatus()}; }
  static IoResult End() { return {State::kEnd, 0, absl::OkStatus()}; }
  static IoResult Failed(absl::Status status) { return {State::kFailed, 0, std::move(status)}; }
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_IO_RESULT_H_
