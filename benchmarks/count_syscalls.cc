// Stands in front of the C library's functions that enter the kernel and counts the calls, by what they are
// for, at full speed: a tracer would slow both sides down, batches would grow and the count would flatter.
// Not seen are waits inside the C library (pthread_mutex_lock, pthread_cond_wait) and the memory that its
// malloc takes from the kernel; Abseil's locks wait through syscall() and are seen.
#include <dlfcn.h>

#include <cstdarg>
#include <cstddef>

#include "ferry/benchmarks/syscall_kinds.h"

// Sanitizers stand there themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define __has_feature(name) 0
#endif
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

using ferry::bench::CountOther;
using ferry::bench::CountPoll;
using ferry::bench::CountRead;
using ferry::bench::CountSyscall;
using ferry::bench::CountWait;
using ferry::bench::CountWrite;
using ferry::bench::SetEventFd;

// Defines the C function `name`, which goes on to the next library's function of that name and then does
// `count`, which may look at the `result`. The headers that declare these functions are not included: theirs
// are declared not to throw, in ways that differ between releases.
#define COUNTED(Result, name, parameters, arguments, count)                                \
  extern "C" Result name parameters {                                                      \
    static const auto next = reinterpret_cast<decltype(&(name))>(dlsym(RTLD_NEXT, #name)); \
    [[maybe_unused]] const Result result = next arguments;                                 \
    count;                                                                                 \
    return result;                                                                         \
  }

// ssize_t is long, socklen_t unsigned, and all structures are untouched pointers here.
COUNTED(long, read, (int fd, void* to, size_t n), (fd, to, n), CountRead(fd, result))
COUNTED(long, readv, (int fd, const void* parts, int n), (fd, parts, n), CountRead(fd, result))
COUNTED(long, recv, (int fd, void* to, size_t n, int flags), (fd, to, n, flags), CountRead(fd, result))
COUNTED(long, recvfrom, (int fd, void* to, size_t n, int flags, void* peer, unsigned* size),
        (fd, to, n, flags, peer, size), CountRead(fd, result))
COUNTED(long, recvmsg, (int fd, void* message, int flags), (fd, message, flags), CountRead(fd, result))
COUNTED(int, recvmmsg, (int fd, void* messages, unsigned n, int flags, void* timeout),
        (fd, messages, n, flags, timeout), CountRead(fd, result))
COUNTED(int, eventfd_read, (int fd, unsigned long* value), (fd, value), CountRead(fd, result))

COUNTED(long, write, (int fd, const void* from, size_t n), (fd, from, n), CountWrite(fd, result))
COUNTED(long, writev, (int fd, const void* parts, int n), (fd, parts, n), CountWrite(fd, result))
COUNTED(long, send, (int fd, const void* from, size_t n, int flags), (fd, from, n, flags),
        CountWrite(fd, result))
COUNTED(long, sendto, (int fd, const void* from, size_t n, int flags, const void* peer, unsigned size),
        (fd, from, n, flags, peer, size), CountWrite(fd, result))
COUNTED(long, sendmsg, (int fd, const void* message, int flags), (fd, message, flags), CountWrite(fd, result))
// Its result is a number of messages: whoever uses it has no bytes counted.
COUNTED(int, sendmmsg, (int fd, void* messages, unsigned n, int flags), (fd, messages, n, flags),
        CountWrite(fd, 0))
COUNTED(long, sendfile, (int to, int from, long* offset, size_t n), (to, from, offset, n),
        CountWrite(to, result))
COUNTED(int, eventfd_write, (int fd, unsigned long value), (fd, value), CountWrite(fd, result))

COUNTED(int, epoll_wait, (int epoll, void* events, int n, int timeout), (epoll, events, n, timeout),
        CountWait(timeout != 0, result))
COUNTED(int, epoll_pwait, (int epoll, void* events, int n, int timeout, const void* signals),
        (epoll, events, n, timeout, signals), CountWait(timeout != 0, result))
COUNTED(int, epoll_pwait2, (int epoll, void* events, int n, const void* timeout, const void* signals),
        (epoll, events, n, timeout, signals), CountWait(timeout, result))
COUNTED(int, poll, (void* fds, unsigned long n, int timeout), (fds, n, timeout),
        CountWait(timeout != 0, result))
COUNTED(int, ppoll, (void* fds, unsigned long n, const void* timeout, const void* signals),
        (fds, n, timeout, signals), CountWait(timeout, result))
COUNTED(int, sched_yield, (), (), CountPoll())

COUNTED(int, epoll_ctl, (int epoll, int operation, int fd, void* event), (epoll, operation, fd, event),
        CountOther())
COUNTED(int, timerfd_settime, (int fd, int flags, const void* value, void* old), (fd, flags, value, old),
        CountOther())
COUNTED(int, nanosleep, (const void* time, void* left), (time, left), CountOther())
COUNTED(int, clock_nanosleep, (int clock, int flags, const void* time, void* left),
        (clock, flags, time, left), CountOther())
COUNTED(int, accept, (int fd, void* peer, unsigned* size), (fd, peer, size), CountOther())
COUNTED(int, accept4, (int fd, void* peer, unsigned* size, int flags), (fd, peer, size, flags), CountOther())
COUNTED(int, shutdown, (int fd, int how), (fd, how), CountOther())
COUNTED(int, getsockopt, (int fd, int level, int name, void* value, unsigned* size),
        (fd, level, name, value, size), CountOther())
COUNTED(int, setsockopt, (int fd, int level, int name, const void* value, unsigned size),
        (fd, level, name, value, size), CountOther())
COUNTED(int, eventfd, (unsigned value, int flags), (value, flags), (SetEventFd(result, true), CountOther()))

// Forgets the descriptor before another thread can be given it anew.
extern "C" int close(int fd) {
  static const auto next = reinterpret_cast<decltype(&close)>(dlsym(RTLD_NEXT, "close"));
  SetEventFd(fd, false);
  CountOther();
  return next(fd);
}

// The kernel takes six arguments at most; those that the caller did not give are garbage that it does not
// look at.
extern "C" long syscall(long number, ...) {
  static const auto next = reinterpret_cast<decltype(&syscall)>(dlsym(RTLD_NEXT, "syscall"));
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  const long result = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  CountSyscall(number, a, result);
  return result;
}

#endif
#endif
