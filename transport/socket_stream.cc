#include "ferry/transport/socket_stream.h"

#include <sys/epoll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/socket.h"

namespace ferry::transport {
namespace {

constexpr uint32_t kReadEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;
// Only while a write waits for room: a Unix socket has an event each time that the peer reads.
constexpr uint32_t kAllEvents = kReadEvents | EPOLLOUT;

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
  // What OnEvents, and another thread's Write, may need at once.
  handler_ = &handler;
  loop_of_writes_.store(&loop, std::memory_order_release);
  absl::Status watched = loop.Watch(socket_, kAllEvents, *this);
  if (!watched.ok()) return watched;
  loop_ = &loop;
  return absl::OkStatus();
}

IoResult SocketStream::Read(absl::Span<const iovec> parts) {
  if (closed_.load(std::memory_order_relaxed)) return Closed(peer_);
  IoResult result = Receive(socket_, parts, peer_);
  // The first end may be that of a peer that only writes no more.
  if (result.state == IoResult::State::kEnd && std::exchange(ended_, true) &&
      hung_up_.load(std::memory_order_relaxed)) {
    return IoResult::Failed(
        absl::UnavailableError(absl::StrCat(peer_.ToString(), " has closed the connection")));
  }
  if (no_more_events_.load(std::memory_order_relaxed)) result.more = true;
  return result;
}

IoResult SocketStream::Write(absl::Span<const iovec> parts) {
  if (closed_.load(std::memory_order_relaxed)) return Closed(peer_);
  IoResult result = Send(socket_, parts, peer_);
  const bool full = result.state == IoResult::State::kWouldBlock ||
                    (result.state == IoResult::State::kDone && !result.more);
  if (full) {
    if (EventLoop* loop = loop_of_writes_.load(std::memory_order_acquire); loop != nullptr) {
      loop->ChangeWatch(socket_, kAllEvents, *this);
    }
  }
  return result;
}

void SocketStream::FinishWriting() { ShutdownWriting(socket_); }

void SocketStream::Close() {
  if (closed_.exchange(true)) return;
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->Unwatch(socket_, *this);
  ShutdownBoth(socket_);
}

void SocketStream::OnEvents(uint32_t events) {
  const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if ((events & EPOLLHUP) != 0) hung_up_.store(true, std::memory_order_relaxed);
  if (broken || (events & EPOLLRDHUP) != 0) no_more_events_.store(true, std::memory_order_relaxed);
  const bool readable = broken || (events & (EPOLLIN | EPOLLRDHUP)) != 0;
  const bool writable = broken || (events & EPOLLOUT) != 0;
  // Before the handler is told: what it then finds full asks for the event again.
  if ((events & EPOLLOUT) != 0) loop_->ChangeWatch(socket_, kReadEvents, *this);
  handler_->OnReady(readable, writable);
}

}  // namespace ferry::transport
