#include "ferry/transport/frame_assembler.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry::transport {

absl::Span<char> FrameAssembler::Room() {
  if (frame_size_ == 0 || handed_out_) return {};
  Grow(frame_size_);
  return {block_.data() + have_, std::min(frame_size_, block_.capacity()) - have_};
}

absl::StatusOr<std::optional<Frame>> FrameAssembler::Next(absl::string_view* input) {
  if (handed_out_) Clear();
  if (have_ > 0) return NextKept(input);
  absl::StatusOr<std::optional<Frame>> frame = TakeFrame(input, limits_);
  if (!frame.ok() || frame->has_value() || input->empty()) return frame;
  return NextKept(input);
}

void FrameAssembler::Clear() {
  handed_out_ = false;
  have_ = frame_size_ = 0;
  block_ = Block();
}

std::string FrameAssembler::Progress() const {
  return frame_size_ > 0 ? absl::StrCat(have_, " of ", frame_size_, " bytes")
                         : absl::StrCat(have_, " of ", kFrameHeaderSize, " bytes of its header");
}

// Goes on with the kept beginning of a frame.
absl::StatusOr<std::optional<Frame>> FrameAssembler::NextKept(absl::string_view* input) {
  if (frame_size_ == 0) {
    if (!TopUp(input, kFrameHeaderSize)) return std::nullopt;
    const FrameHeader header = DecodeFrameHeader(block_.data());
    if (absl::Status valid = ValidateFrameHeader(header, limits_); !valid.ok()) return valid;
    frame_size_ = kFrameHeaderSize + header.length;
  }
  if (!TopUp(input, frame_size_)) return std::nullopt;
  handed_out_ = true;
  absl::string_view whole(block_.data(), frame_size_);
  return TakeFrame(&whole, limits_);
}

// Moves bytes from `*input` behind what is kept until `wanted` are; whether they are.
bool FrameAssembler::TopUp(absl::string_view* input, size_t wanted) {
  while (have_ < wanted && !input->empty()) {
    Grow(wanted);
    const size_t n = std::min({input->size(), wanted - have_, block_.capacity() - have_});
    std::memcpy(block_.data() + have_, input->data(), n);
    input->remove_prefix(n);
    have_ += n;
  }
  return have_ >= wanted;
}

// Makes room for at least one more byte of `wanted`. The room grows with what the peer has sent, not with
// what its header announces: 12 bytes must not cost us a frame's worth of memory.
void FrameAssembler::Grow(size_t wanted) {
  if (block_ && have_ < block_.capacity()) return;
  Block larger = blocks_->Allocate(std::min(wanted, std::max(BufferPool::kMinBlock, 4 * have_)));
  if (have_ > 0) std::memcpy(larger.data(), block_.data(), have_);
  block_ = std::move(larger);
}

}  // namespace ferry::transport
