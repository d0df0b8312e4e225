// The far end of a byte stream, for tests that say byte by byte what the peer sends.
#ifndef FERRY_TESTS_TESTING_RAW_PEER_H_
#define FERRY_TESTS_TESTING_RAW_PEER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/frame.h"

namespace ferry::test {

// The preface of this version.
std::string Preface();

// A whole frame: `header` with its length and head filled in, then head and message.
std::string EncodeFrame(transport::FrameHeader header, absl::string_view head = {},
                        absl::string_view message = {});

// A REQUEST with its prefix.
struct RawRequest {
  uint32_t slot = 1;
  uint32_t generation = 0;
  uint64_t method = 0;
  uint32_t timeout_us = 0;
  uint8_t flags = transport::kEndStream;
  std::string head = {};
  std::string message = {};
};
std::string EncodeRequest(const RawRequest& request);

// A frame that consists of a head.
std::string EncodeHeadFrame(transport::FrameType type, absl::string_view head,
                            transport::StreamId stream = {}, uint8_t flags = 0);

std::string EncodeSettingsFrame(const WireSettings& settings = {});

// A ReceivedFrame is a frame with its bytes: a value.
struct ReceivedFrame {
  transport::FrameHeader header;
  std::string body;

  transport::Frame frame() const { return {.header = header, .body = body}; }
  std::string head() const { return std::string(frame().head()); }
  std::string message() const { return std::string(frame().message()); }
  // Of a STATUS; a failure and UNKNOWN of anything else.
  WireStatus status() const;
};

// A RawPeer is what a connection under test is connected to. It reads and writes its end of the stream on the
// test's thread, and has the other end take its turn in between.
//
// Thread-compatible.
class RawPeer {
 public:
  // `settle` has the connection under test do all that it can do now.
  RawPeer(std::unique_ptr<transport::ByteStream> stream, std::function<void()> settle);

  // Sends `bytes`; what the other end does not take because it has closed, is dropped.
  void Send(absl::string_view bytes);
  // Says that nothing more will be sent.
  void FinishWriting();
  // Goes away.
  void Close() { stream_->Close(); }

  // Everything that has come and was not taken yet.
  const std::string& Received();
  // Takes that.
  std::string TakeBytes();
  // Takes the other end's preface; false if it has not come.
  bool TakePreface();
  // Takes the next frame; nullopt if none is whole.
  std::optional<ReceivedFrame> TakeFrame();
  // Takes every whole frame.
  std::vector<ReceivedFrame> TakeFrames();
  // Whether the other end has said that it writes no more, or is closed.
  bool ended();

 private:
  bool ReadSome();

  const std::unique_ptr<transport::ByteStream> stream_;
  const std::function<void()> settle_;
  std::string input_;
  bool ended_ = false;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_RAW_PEER_H_
