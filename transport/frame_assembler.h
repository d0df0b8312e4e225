// Frames out of bytes that arrive in any pieces.
#ifndef FERRY_TRANSPORT_FRAME_ASSEMBLER_H_
#define FERRY_TRANSPORT_FRAME_ASSEMBLER_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/frame.h"

namespace ferry::transport {

// A FrameAssembler turns pieces of a byte stream into frames. Frames that lie whole in a piece are handed out
// in place; only the beginning of a frame whose rest is missing is copied, into a block of its own, and the
// rest may then be read straight behind it:
//
//     piece   [ frame ][ frame ][ beginn           the block       [ beginn|ing of the rest.. ]
//               in place          '- copied ------>                        ^ Room()
//
// A peer makes it hold at most four times the bytes it has sent of that one frame, plus a small block.
//
// Thread-compatible.
class FrameAssembler {
 public:
  // Blocks come from `blocks`, which must outlive this.
  FrameAssembler(const FrameLimits& limits, BlockCache& blocks) : limits_(limits), blocks_(&blocks) {}

  // Where to read the next bytes so that they need no copy: behind the beginning of a frame. Empty if there
  // is none.
  absl::Span<char> Room();

  // Says that `n` bytes, at most Room().size(), were put at the start of Room().
  void Filled(size_t n) { have_ += n; }

  // Takes the next frame, out of what was kept and the front of `*input`.
  //
  // Returns nullopt when more bytes are needed; `*input` is empty then, its rest kept. The frame's bytes are
  // valid until the next call. Returns an error, for good, if no further bytes can make the input valid.
  absl::StatusOr<std::optional<Frame>> Next(absl::string_view* input);

  // Next for the usual case, without its cost: whether a valid frame lies whole at the front of `*input` and
  // nothing was kept before it. If not, and whatever the reason, Next is to be asked.
  bool TakeInPlace(absl::string_view* input, Frame& frame) {
    if (have_ > 0 || input->size() < kFrameHeaderSize) return false;
    frame.header = DecodeFrameHeader(input->data());
    if (!IsValidFrameHeader(frame.header, limits_)) return false;
    if (input->size() - kFrameHeaderSize < frame.header.length) return false;
    frame.body = absl::string_view(input->data() + kFrameHeaderSize, frame.header.length);
    input->remove_prefix(kFrameHeaderSize + frame.header.length);
    return true;
  }

  // Forgets what is kept, and its memory.
  void Clear();

  // Whether the beginning of a frame is kept.
  bool partial() const { return have_ > 0 && !handed_out_; }
  // "10 of 24 bytes": how much of that frame is there. REQUIRES: partial().
  std::string Progress() const;

 private:
  absl::StatusOr<std::optional<Frame>> NextKept(absl::string_view* input);
  bool TopUp(absl::string_view* input, size_t wanted);
  void Grow(size_t wanted);

  const FrameLimits limits_;
  BlockCache* const blocks_;
  // The beginning of a frame: `have_` bytes at the start of `block_`.
  Block block_;
  size_t have_ = 0;
  // The length of that frame with its header, once the header is whole and valid; 0 before.
  size_t frame_size_ = 0;
  // Whether the frame in `block_` has been handed out and is to be dropped.
  bool handed_out_ = false;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_FRAME_ASSEMBLER_H_
