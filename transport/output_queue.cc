#include "ferry/transport/output_queue.h"

#include <algorithm>
#include <utility>

namespace ferry::transport {

// Large enough that a batch of small frames is one piece.
constexpr size_t kGatherBlock = 16 * 1024;

size_t OutputQueue::GatherSize(size_t size) { return std::max(size, kGatherBlock); }

void OutputQueue::StartGathering(Block block) {
  gather_ = std::move(block);
  gather_data_ = gather_ ? gather_.data() : nullptr;
  room_ = gather_ ? gather_.capacity() : 0;
  gathered_ = 0;
  extend_last_ = false;
}

void OutputQueue::Append(Block block, absl::string_view part) {
  if (part.empty()) return;
  pieces_.push_back({std::move(block), part.data(), part.size()});
  bytes_ += part.size();
  extend_last_ = false;
}

void OutputQueue::TakeAll(OutputQueue& other) {
  if (other.empty()) return;
  // The usual case: all was written, and the two change their memory for each other's.
  if (empty()) return std::swap(*this, other);
  for (size_t i = other.first_; i < other.pieces_.size(); ++i) pieces_.push_back(std::move(other.pieces_[i]));
  bytes_ += other.bytes_;
  // Its block is in use by its pieces now.
  extend_last_ = false;
  other.Clear();
}

size_t OutputQueue::Peek(absl::Span<iovec> parts) const {
  const size_t count = std::min(parts.size(), pieces_.size() - first_);
  for (size_t i = 0; i < count; ++i) {
    const Piece& piece = pieces_[first_ + i];
    parts[i] = {.iov_base = const_cast<char*>(piece.data), .iov_len = piece.size};
  }
  return count;
}

void OutputQueue::Drop(size_t size) {
  bytes_ -= size;
  if (bytes_ == 0) return Rewind();
  while (size > 0) {
    Piece& piece = pieces_[first_];
    if (size < piece.size) {
      piece.data += size;
      piece.size -= size;
      break;
    }
    size -= piece.size;
    piece.block = Block();
    ++first_;
  }
  // Each piece is moved at most once for each that was written, however long the queue stays busy.
  if (first_ >= 32 && first_ * 2 >= pieces_.size()) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }
}

void OutputQueue::Clear() {
  Rewind();
  StartGathering(Block());
}

// Empties the queue, and keeps the block being gathered into for the next bytes.
void OutputQueue::Rewind() {
  pieces_.clear();
  first_ = 0;
  bytes_ = 0;
  gathered_ = 0;
  extend_last_ = false;
}

}  // namespace ferry::transport
