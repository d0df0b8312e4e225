// Bytes that wait to be written.
#ifndef FERRY_TRANSPORT_OUTPUT_QUEUE_H_
#define FERRY_TRANSPORT_OUTPUT_QUEUE_H_

#include <sys/uio.h>

#include <cstddef>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"

namespace ferry::transport {

// An OutputQueue is a list of pieces of blocks, in the order they are to be written:
//
//     pieces  [header header message header][...message by reference...][header
//             '- gathered in a block of ours   '- the caller's block      '- ours again
//
// Small things are gathered, so that many frames are one piece; large ones are referred to. Gathering behind
// a piece that is being written at the same moment is fine: bytes once appended are not moved or changed.
//
// Thread-compatible.
class OutputQueue {
 public:
  // Room for `size` contiguous bytes behind everything else, counted as appended; the caller fills it.
  // `allocate` is called with a size when a new block is needed.
  template <typename Allocate>
  char* Append(size_t size, Allocate&& allocate) {
    if (room_ - gathered_ < size) StartGathering(allocate(GatherSize(size)));
    return Gathered(size);
  }

  // Appends `part`, which lies in `block`, without copying it.
  void Append(Block block, absl::string_view part);

  // The first pieces, as many as fit in `parts`; returns how many.
  size_t Peek(absl::Span<iovec> parts) const;

  // Appends all that `other` holds, which is empty afterwards. Nothing is copied.
  void TakeAll(OutputQueue& other);

  // Drops the first `size` bytes: they were written. REQUIRES: size <= bytes().
  void Drop(size_t size);

  void Clear();

  // Gives back the memory that is kept for gathering while nothing waits.
  void ReleaseIdle() {
    if (empty()) StartGathering(Block());
  }

  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

 private:
  struct Piece {
    Block block;
    const char* data;
    size_t size;
  };

  void Rewind();
  static size_t GatherSize(size_t size);
  void StartGathering(Block block);
  char* Gathered(size_t size) {
    char* start = gather_data_ + gathered_;
    if (size == 0) return start;  // streams are given no empty pieces
    gathered_ += size;
    bytes_ += size;
    if (extend_last_) {
      pieces_.back().size += size;
    } else {
      pieces_.push_back({gather_, start, size});
      extend_last_ = true;
    }
    return start;
  }

  // pieces_[first_..] wait; those before are dropped, and removed now and then.
  std::vector<Piece> pieces_;
  size_t first_ = 0;
  size_t bytes_ = 0;
  // The block being gathered into, its memory, its size, and how much of it is used.
  Block gather_;
  char* gather_data_ = nullptr;
  size_t room_ = 0;
  size_t gathered_ = 0;
  // Whether the last piece ends where the next gathered bytes will lie.
  bool extend_last_ = false;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_OUTPUT_QUEUE_H_
