// The conformance service's calls frame by frame, for peers that do not keep to the protocol.
#ifndef FERRY_TESTS_CONFORMANCE_RAW_CALLS_H_
#define FERRY_TESTS_CONFORMANCE_RAW_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/frame.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/findings.h"
#include "tests/conformance/mode.h"
#include "tests/testing/raw_peer.h"

namespace ferry::test::conformance {

// Exchanges prefaces and SETTINGS with the other end.
void Greet(RawPeer& peer, Findings& findings);

// Waits for the next frame that is no WINDOW and no PING; nullopt, and a finding, if none comes.
std::optional<ReceivedFrame> NextFrame(RawPeer& peer, Findings& findings);

// The first fragment of a server's message of `total` bytes: `type` with MORE and a head that says so.
std::string FirstFragment(transport::FrameType type, transport::StreamId stream, uint64_t total,
                          absl::string_view bytes);

// A frame with a whole message, or the last of one.
std::string MessageFrame(transport::FrameType type, transport::StreamId stream, absl::string_view bytes,
                         uint8_t flags);

// The id of one of the service's methods.
uint64_t IdOf(absl::string_view method);

// A ScriptedServer is a client in a mode, connected to a server of which the test says every byte.
//
// Thread-compatible.
class ScriptedServer {
 public:
  explicit ScriptedServer(const Mode& mode);
  ~ScriptedServer();

  Caller& caller() { return *caller_; }
  // How often the client has connected.
  size_t connections() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits for the client's connection and exchanges prefaces and SETTINGS. REQUIRES: a call has begun. Once.
  RawPeer& Accept(Findings& findings) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  size_t connections_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::unique_ptr<transport::ByteStream>> far_ends_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<Caller> caller_;
  std::unique_ptr<RawPeer> peer_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_RAW_CALLS_H_
