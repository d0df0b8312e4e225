#include "ferry/transport/memory_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ferry/transport/check.h"

namespace ferry::transport {
namespace {

// A Ring holds bytes, first in first out, up to its capacity.
class Ring {
 public:
  explicit Ring(size_t capacity) : capacity_(capacity) {}

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == capacity_; }

  // Takes as many of the `size` bytes at `data` as fit; returns how many.
  size_t Put(const char* data, size_t size);
  // Moves up to `size` bytes to `data`; returns how many.
  size_t Take(char* data, size_t size);
  void Clear();

 private:
  size_t capacity_;
  std::unique_ptr<char[]> bytes_;  // allocated when first needed
  size_t front_ = 0;
  size_t size_ = 0;
};

size_t Ring::Put(const char* data, size_t size) {
  if (bytes_ == nullptr) bytes_ = std::make_unique_for_overwrite<char[]>(capacity_);
  size = std::min(size, capacity_ - size_);
  const size_t back = (front_ + size_) % capacity_;
  const size_t until_wrap = std::min(size, capacity_ - back);
  std::memcpy(&bytes_[back], data, until_wrap);
  std::memcpy(&bytes_[0], data + until_wrap, size - until_wrap);
  size_ += size;
  return size;
}

size_t Ring::Take(char* data, size_t size) {
  size = std::min(size, size_);
  if (size == 0) return 0;
  const size_t until_wrap = std::min(size, capacity_ - front_);
  std::memcpy(data, &bytes_[front_], until_wrap);
  std::memcpy(data + until_wrap, &bytes_[0], size - until_wrap);
  front_ = (front_ + size) % capacity_;
  size_ -= size;
  return size;
}

void Ring::Clear() {
  bytes_.reset();
  front_ = size_ = 0;
}

// A Link is what the two ends, 0 and 1, share.
//
// Thread-safe. Kept alive by its ends, which may belong to different threads, and by what they have posted.
class Link : public std::enable_shared_from_this<Link> {
 public:
  explicit Link(size_t capacity) : ends_{End(capacity), End(capacity)} {}

  void Watch(size_t index, EventLoop& loop, ByteStream::ReadyHandler& handler) ABSL_LOCKS_EXCLUDED(mutex_);
  IoResult Read(size_t index, absl::Span<const iovec> parts) ABSL_LOCKS_EXCLUDED(mutex_);
  IoResult Write(size_t index, absl::Span<const iovec> parts) ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishWriting(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  void Close(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct End {
    explicit End(size_t capacity) : input(capacity) {}

    Ring input;  // written by the other end, to be read by this
    bool finished_writing = false;
    bool closed = false;

    // Where and whom to tell; nullptr before Watch and after Close.
    EventLoop* loop = nullptr;
    ByteStream::ReadyHandler* handler = nullptr;
    // To be told as soon as there is something to read, or room to write.
    bool awaits_input = false;
    bool awaits_room = false;
    // What the task that is posted will tell. One is posted if any is true.
    bool readable = false;
    bool writable = false;
  };

  void Tell(size_t index, bool readable, bool writable) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunHandler(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::array<End, 2> ends_ ABSL_GUARDED_BY(mutex_);
};

void Link::Watch(size_t index, EventLoop& loop, ByteStream::ReadyHandler& handler) {
  absl::MutexLock lock(&mutex_);
  End& self = ends_[index];
  FERRY_CHECK(self.handler == nullptr && !self.closed, "a stream is watched twice, or after Close");
  self.loop = &loop;
  self.handler = &handler;
  Tell(index, true, true);
}

IoResult Link::Read(size_t index, absl::Span<const iovec> parts) {
  absl::MutexLock lock(&mutex_);
  End& self = ends_[index];
  End& other = ends_[1 - index];
  if (self.closed) return IoResult::Failed(absl::UnavailableError("the in-process connection is closed"));
  size_t bytes = 0;
  for (const iovec& part : parts) bytes += self.input.Take(static_cast<char*>(part.iov_base), part.iov_len);
  const bool ended = other.finished_writing || other.closed;
  if (bytes == 0 && ended) return IoResult::End();
  const bool more = ended || !self.input.empty();
  if (!more) self.awaits_input = true;
  if (bytes == 0) return IoResult::WouldBlock();
  if (std::exchange(other.awaits_room, false)) Tell(1 - index, false, true);
  return IoResult::Done(bytes, more);
}

IoResult Link::Write(size_t index, absl::Span<const iovec> parts) {
  absl::MutexLock lock(&mutex_);
  End& self = ends_[index];
  End& other = ends_[1 - index];
  if (self.closed) return IoResult::Failed(absl::UnavailableError("the in-process connection is closed"));
  if (self.finished_writing) return IoResult::Failed(absl::UnavailableError("writing has been finished"));
  if (other.closed) return IoResult::Failed(absl::UnavailableError("the in-process peer has closed"));
  size_t bytes = 0;
  for (const iovec& part : parts)
    bytes += other.input.Put(static_cast<const char*>(part.iov_base), part.iov_len);
  const bool more = !other.input.full();
  if (!more) self.awaits_room = true;
  if (bytes == 0) return IoResult::WouldBlock();
  if (std::exchange(other.awaits_input, false)) Tell(1 - index, true, false);
  return IoResult::Done(bytes, more);
}

void Link::FinishWriting(size_t index) {
  absl::MutexLock lock(&mutex_);
  ends_[index].finished_writing = true;
  Tell(1 - index, true, false);
}

void Link::Close(size_t index) {
  absl::MutexLock lock(&mutex_);
  End& self = ends_[index];
  if (std::exchange(self.closed, true)) return;
  self.loop = nullptr;
  self.handler = nullptr;
  self.input.Clear();
  Tell(1 - index, true, true);
}

// Posts under the mutex: only so is it sure that the loop, which may end after its stream's Close, is still
// there. The loop's own mutex comes second, always.
void Link::Tell(size_t index, bool readable, bool writable) {
  End& end = ends_[index];
  if (end.loop == nullptr) return;
  const bool posted = end.readable || end.writable;
  end.readable |= readable;
  end.writable |= writable;
  if (!posted) end.loop->Post([self = shared_from_this(), index] { self->RunHandler(index); });
}

void Link::RunHandler(size_t index) {
  ByteStream::ReadyHandler* handler;
  bool readable;
  bool writable;
  {
    absl::MutexLock lock(&mutex_);
    End& end = ends_[index];
    handler = end.handler;
    readable = std::exchange(end.readable, false);
    writable = std::exchange(end.writable, false);
  }
  // Close runs on this thread: if it has not, it will not before the handler is told.
  if (handler != nullptr) handler->OnReady(readable, writable);
}

class MemoryStream final : public ByteStream {
 public:
  MemoryStream(std::shared_ptr<Link> link, size_t index) : link_(std::move(link)), index_(index) {}
  ~MemoryStream() override { Close(); }

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override {
    loop.AssertInLoop();
    loop_ = &loop;
    link_->Watch(index_, loop, handler);
    return absl::OkStatus();
  }

  IoResult Read(absl::Span<const iovec> parts) override { return link_->Read(index_, parts); }
  IoResult Write(absl::Span<const iovec> parts) override { return link_->Write(index_, parts); }
  void FinishWriting() override { link_->FinishWriting(index_); }

  void Close() override {
    if (loop_ != nullptr) std::exchange(loop_, nullptr)->AssertInLoop();
    link_->Close(index_);
  }

  std::string peer() const override { return "in-process"; }

 private:
  const std::shared_ptr<Link> link_;
  const size_t index_;
  EventLoop* loop_ = nullptr;  // from Watch to Close
};

}  // namespace

MemoryStreamPair MemoryStreamPair::Create(size_t capacity) {
  FERRY_CHECK(capacity > 0, "a memory stream has no capacity");
  const auto link = std::make_shared<Link>(capacity);
  return {std::make_unique<MemoryStream>(link, 0), std::make_unique<MemoryStream>(link, 1)};
}

}  // namespace ferry::transport
