// Bytes both ways between two ends, whatever carries them.
#ifndef FERRY_TRANSPORT_BYTE_STREAM_H_
#define FERRY_TRANSPORT_BYTE_STREAM_H_

#include <sys/uio.h>

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"

namespace ferry::transport {

// A ByteStream is one end of a two-way, ordered, reliable flow of bytes: a socket, or memory in tests and
// between the two ends of an in-process pair.
//
// Read and Write never block, and each is called by one thread at a time; a Read and a Write may run at once.
// All else belongs to the loop given to Watch; before Watch to whoever owns the stream. Destroying a stream
// closes it.
class ByteStream {
 public:
  // A ReadyHandler is told, on the loop, that a Read or a Write that answered kWouldBlock may now do more. It
  // may be told so in vain, but is told at least once after each kWouldBlock, and once soon after Watch. The
  // end of the peer's writing and failures count as readable. It may destroy the stream inside OnReady.
  class ReadyHandler {
   public:
    virtual ~ReadyHandler() = default;
    virtual void OnReady(bool readable, bool writable) = 0;
    // Reads if there is something to read, without having been told; whether there was.
    virtual bool OnPoll() { return false; }
    // Whether OnPoll may be called just now.
    virtual bool pollable() const { return false; }
  };

  virtual ~ByteStream() = default;

  // Begins telling `handler`, on `loop`, until the stream is closed. Called at most once, on the loop's
  // thread. Neither is owned; both must outlive the stream's Close.
  virtual absl::Status Watch(EventLoop& loop, ReadyHandler& handler) = 0;

  // Moves bytes into, or out of, `parts` in order. No part is empty and there are at most kMaxParts. Never
  // answers with an errno of its own: failures are statuses of code UNAVAILABLE that name what failed.
  virtual IoResult Read(absl::Span<const iovec> parts) = 0;
  virtual IoResult Write(absl::Span<const iovec> parts) = 0;
  static constexpr size_t kMaxParts = 64;

  // Says that this end writes no more: once the peer has read everything, its Read answers kEnd. Reading goes
  // on. Called once at most, not during a Write. Failures show at the next Read.
  virtual void FinishWriting() = 0;

  // Ends both directions and Watch. Does nothing the second time. Reads and writes afterwards answer kFailed;
  // the peer reads kEnd, or a failure. On the loop, if Watch was called; may come during another thread's
  // Read or Write, which then fails or ends.
  virtual void Close() = 0;

  // "127.0.0.1:41234", "[::1]:41234", "unix:/path" ("unix:" when the peer's socket has no name) or
  // "in-process".
  virtual std::string peer() const = 0;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_BYTE_STREAM_H_
