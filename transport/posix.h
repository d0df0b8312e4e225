// File descriptors, and waiting for them.
#ifndef FERRY_TRANSPORT_POSIX_H_
#define FERRY_TRANSPORT_POSIX_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace ferry::transport {

// A FileDescriptor owns an open file descriptor, or nothing.
//
// Thread-compatible.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { Close(); }

  bool open() const { return fd_ >= 0; }
  // -1 unless open().
  int get() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
};

// `what` and the text of the error number `error`, with the code that goes with it: "cannot bind
// 127.0.0.1:80: Permission denied".
absl::Status ErrorStatus(int error, const std::string& what);

// The same for the calling thread's errno.
absl::Status LastError(const std::string& what);

// An Epoll is a set of descriptors that can be waited for together.
//
// Thread-compatible; see epoll(7).
class Epoll {
 public:
  static absl::StatusOr<Epoll> Create();

  // Begins to report `events` of `fd`, with `data` beside them. REQUIRES: `fd` is not in the set.
  absl::Status Add(const FileDescriptor& fd, uint32_t events, void* data);
  // Reports `events` of `fd` from now on, and those at once that hold just now. Does nothing if `fd` is not
  // in the set. Thread-safe.
  void Change(const FileDescriptor& fd, uint32_t events, void* data) const;
  // REQUIRES: `fd` is in the set.
  void Remove(const FileDescriptor& fd);

  // Waits up to `nanos` nanoseconds, at least 0, or kForever, for events and puts them into the front of
  // `events`; returns how many. None, also early, if a signal came. Waits to the nanosecond on Linux 5.11 and
  // later, before that to the next whole millisecond.
  size_t Wait(absl::Span<epoll_event> events, int64_t nanos);
  static constexpr int64_t kForever = std::numeric_limits<int64_t>::max();

 private:
  explicit Epoll(FileDescriptor fd) : fd_(std::move(fd)) {}

  FileDescriptor fd_;
  bool has_pwait2_ = true;  // until the kernel says otherwise
};

// A WakeUp makes a descriptor readable.
class WakeUp {
 public:
  static absl::StatusOr<WakeUp> Create();

  // Each Signal is one more edge for whoever watches with EPOLLET; nobody needs to read it. Thread-safe.
  void Signal() const;

  // For one thread that waits for nothing else: whether a Signal came, now or within `timeout`. Takes all
  // Signals so far.
  bool Await(absl::Duration timeout) const;

  const FileDescriptor& fd() const { return fd_; }

 private:
  explicit WakeUp(FileDescriptor fd) : fd_(std::move(fd)) {}

  FileDescriptor fd_;  // an eventfd
};

// A DirectoryWatch makes a descriptor readable when a file of a directory was written and closed, or a name
// in it came, went or became another file's; see inotify(7).
//
// Thread-compatible.
class DirectoryWatch {
 public:
  // The system's error, with the path, if there is no such directory or no watch to be had.
  static absl::StatusOr<DirectoryWatch> Create(const std::string& path);

  // Takes the changes so far. False if the directory itself is gone: there will be no more then.
  bool TakeChanges();

  const FileDescriptor& fd() const { return fd_; }

 private:
  explicit DirectoryWatch(FileDescriptor fd) : fd_(std::move(fd)) {}

  FileDescriptor fd_;
};

// What is in the file at `path`. The system's error, with the path; RESOURCE_EXHAUSTED if it has more than
// `max_bytes`. Waits for the disk, but not for a pipe's other end.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_POSIX_H_
