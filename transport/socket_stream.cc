#include "ferry/transport/socket_stream.h"

#include <sys/epoll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/socket.h"

namespace ferry::transport {
namespace {

IoResult Closed(const SocketAddress& peer) {
  return IoResult::Failed(
      absl::UnavailableError(absl::StrCat("the connection to ", peer.ToString(), " is closed")));
}

}  // namespace

SocketStream::SocketStream(FileDescriptor socket, const SocketAddress& peer)
    : socket_(std::move(socket)), peer_(peer) {}

SocketStream::~SocketStream() { Close(); }

absl::Status SocketStream::Watch(EventLoop& loop, ReadyHandler& handler) {
  loop.AssertInLoop();
  FERRY_CHECK(handler_ == nullptr, "a stream is watched twice");
  const absl::Status watched = loop.Watch(socket_, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, *this);
  if (!watched.ok()) return watched;
  loop_ = &loop;
  handler_ = &handler;
  return absl::OkStatus();
}

IoResult SocketStream::Read(absl::Span<const iovec> parts) {
  if (closed_.load(std::memory_order_relaxed)) return Closed(peer_);
  IoResult result = Receive(socket_, parts, peer_);
  if (no_more_events_.load(std::memory_order_relaxed)) result.more = true;
  return result;
}

IoResult SocketStream::Write(absl::Span<const iovec> parts) {
  if (closed_.load(std::memory_order_relaxed)) return Closed(peer_);
  return Send(socket_, parts, peer_);
}

void SocketStream::FinishWriting() { ShutdownWriting(socket_); }

void SocketStream::Close() {
  if (closed_.exchange(true)) return;
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->Unwatch(socket_, *this);
  ShutdownBoth(socket_);
}

void SocketStream::OnEvents(uint32_t events) {
  const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if (broken || (events & EPOLLRDHUP) != 0) no_more_events_.store(true, std::memory_order_relaxed);
  const bool readable = broken || (events & (EPOLLIN | EPOLLRDHUP)) != 0;
  const bool writable = broken || (events & EPOLLOUT) != 0;
  handler_->OnReady(readable, writable);
}

}  // namespace ferry::transport
