#include "ferry/transport/posix.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"

namespace ferry::transport {
namespace {

// The C library has a wrapper only since glibc 2.35.
int EpollPwait2(int epoll, absl::Span<epoll_event> events, int64_t nanos) {
  const bool forever = nanos == Epoll::kForever;
  const timespec time = {.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  return static_cast<int>(syscall(SYS_epoll_pwait2, epoll, events.data(), static_cast<int>(events.size()),
                                  forever ? nullptr : &time, nullptr, size_t{0}));
}

// Rounds up: a wait that ends early is followed by another, again and again.
int WholeMilliseconds(int64_t nanos) {
  if (nanos == Epoll::kForever) return -1;
  const int64_t ms = nanos / 1'000'000 + (nanos % 1'000'000 > 0 ? 1 : 0);
  return static_cast<int>(std::min<int64_t>(ms, std::numeric_limits<int>::max()));
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::Close() {
  // Not repeated on EINTR: Linux has released the descriptor by then.
  if (open()) close(std::exchange(fd_, -1));
}

absl::Status ErrorStatus(int error, const std::string& what) { return absl::ErrnoToStatus(error, what); }

absl::Status LastError(const std::string& what) { return ErrorStatus(errno, what); }

absl::StatusOr<Epoll> Epoll::Create() {
  FileDescriptor fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.open()) return LastError("cannot create an epoll descriptor");
  return Epoll(std::move(fd));
}

absl::Status Epoll::Add(const FileDescriptor& fd, uint32_t events, void* data) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = data;
  if (epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0)
    return LastError("cannot watch a descriptor");
  return absl::OkStatus();
}

void Epoll::Change(const FileDescriptor& fd, uint32_t events, void* data) const {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = data;
  const int result = epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd.get(), &event);
  FERRY_CHECK(result == 0 || errno == ENOENT, "a descriptor's events cannot be changed");
}

void Epoll::Remove(const FileDescriptor& fd) {
  const int result = epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  FERRY_CHECK(result == 0, "a descriptor to unwatch is not watched");
}

size_t Epoll::Wait(absl::Span<epoll_event> events, int64_t nanos) {
  // Without waiting the older call does the same, and cheaper.
  if (has_pwait2_ && nanos > 0) {
    const int count = EpollPwait2(fd_.get(), events, nanos);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EINTR) return 0;
    // Too old a kernel, or a sandbox that does not know the call and may refuse it with any error.
    has_pwait2_ = false;
  }
  const int count =
      epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()), WholeMilliseconds(nanos));
  FERRY_CHECK(count >= 0 || errno == EINTR, "epoll_wait failed");
  return static_cast<size_t>(std::max(count, 0));
}

absl::StatusOr<WakeUp> WakeUp::Create() {
  FileDescriptor fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.open()) return LastError("cannot create an eventfd");
  return WakeUp(std::move(fd));
}

void WakeUp::Signal() const {
  const uint64_t one = 1;
  ssize_t written;
  do {
    written = write(fd_.get(), &one, sizeof one);
  } while (written < 0 && errno == EINTR);
  FERRY_CHECK(written == sizeof one, "writing to an eventfd failed");
}

bool WakeUp::Await(absl::Duration timeout) const {
  pollfd waiting = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
  const timespec limit = absl::ToTimespec(timeout);
  const int ready = ppoll(&waiting, 1, &limit, nullptr);
  FERRY_CHECK(ready >= 0 || errno == EINTR, "ppoll failed");
  if (ready <= 0) return false;
  uint64_t signals;
  return read(fd_.get(), &signals, sizeof signals) == sizeof signals;
}

absl::StatusOr<DirectoryWatch> DirectoryWatch::Create(const std::string& path) {
  FileDescriptor fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.open()) return LastError("cannot create an inotify descriptor");
  constexpr uint32_t kChanges = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  if (inotify_add_watch(fd.get(), path.c_str(), kChanges) < 0)
    return LastError(absl::StrCat("cannot watch the directory ", path));
  return DirectoryWatch(std::move(fd));
}

bool DirectoryWatch::TakeChanges() {
  bool there = true;
  char buffer[16 * 1024];
  // Whoever changes things as fast as this reads would keep it here for ever; what is left makes it readable.
  for (int reads = 0; reads < 100; ++reads) {
    const ssize_t size = read(fd_.get(), buffer, sizeof buffer);
    if (size <= 0) break;
    for (size_t at = 0; at + sizeof(inotify_event) <= static_cast<size_t>(size);) {
      inotify_event event;
      std::memcpy(&event, buffer + at, sizeof event);
      if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0) there = false;
      at += sizeof event + event.len;
    }
  }
  return there;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.open()) return LastError(absl::StrCat("cannot open ", path));
  std::string contents;
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t size = read(fd.get(), buffer, sizeof buffer);
    if (size == 0) return contents;
    if (size < 0) {
      if (errno == EINTR) continue;
      return LastError(absl::StrCat("cannot read ", path));
    }
    if (contents.size() + static_cast<size_t>(size) > max_bytes)
      return absl::ResourceExhaustedError(absl::StrCat(path, " is over the limit of ", max_bytes, " bytes"));
    contents.append(buffer, static_cast<size_t>(size));
  }
}

}  // namespace ferry::transport
