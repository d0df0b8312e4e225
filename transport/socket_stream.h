// A ByteStream over a socket.
#ifndef FERRY_TRANSPORT_SOCKET_STREAM_H_
#define FERRY_TRANSPORT_SOCKET_STREAM_H_

#include <atomic>
#include <string>

#include "ferry/transport/byte_stream.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"

namespace ferry::transport {

// A SocketStream is one end of a connected TCP or Unix socket.
//
// As ByteStream says.
class SocketStream final : public ByteStream, private EventLoop::Handler {
 public:
  // `socket` is connected, and non-blocking; `peer` is the address to name it by.
  SocketStream(FileDescriptor socket, const SocketAddress& peer);
  ~SocketStream() override;

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override;
  IoResult Read(absl::Span<const iovec> parts) override;
  IoResult Write(absl::Span<const iovec> parts) override;
  void FinishWriting() override;
  void Close() override;
  std::string peer() const override { return peer_.ToString(); }

 private:
  void OnEvents(uint32_t events) override;
  bool OnPoll() override { return handler_->OnPoll(); }
  bool pollable() const override { return handler_->pollable(); }

  // Open until the end, so that no thread can use a descriptor that has become another's; Close shuts it
  // down.
  const FileDescriptor socket_;
  const SocketAddress peer_;
  std::atomic<bool> closed_{false};
  // The peer has finished writing, or the connection is broken: there will be no further event to go on
  // reading. Stored before the handler is told, which then reads: relaxed, since telling orders them.
  std::atomic<bool> no_more_events_{false};
  // The peer reads no more either: a Unix socket tells. Stored as no_more_events_.
  std::atomic<bool> hung_up_{false};

  // The loop, once it watches: for a Write that finds no room. The loop outlives all writes.
  std::atomic<EventLoop*> loop_of_writes_{nullptr};

  // Belong to the loop.
  EventLoop* loop_ = nullptr;  // until Close
  ReadyHandler* handler_ = nullptr;
  // Read has told that the peer writes no more.
  bool ended_ = false;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_SOCKET_STREAM_H_
