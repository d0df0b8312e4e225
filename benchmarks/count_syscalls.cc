// Stands in front of the C library's functions that enter the kernel and counts the calls, at full speed: a
// tracer would slow both sides down, batches would grow and the count would flatter. Not seen are waits
// inside the C library (pthread_mutex_lock, pthread_cond_wait) and the memory that its malloc takes from the
// kernel; Abseil's locks wait through syscall() and are seen.
#include <dlfcn.h>

#include <cstdarg>
#include <cstddef>

#include "ferry/benchmarks/event_counter.h"

// Sanitizers stand there themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define __has_feature(name) 0
#endif
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

// Defines the C function `name`, which counts and goes on to the next library's function of that name. The
// headers that declare these functions are not included: theirs are declared not to throw, in ways that
// differ between releases.
#define COUNTED(Result, name, parameters, arguments)                                       \
  extern "C" Result name parameters {                                                      \
    static const auto next = reinterpret_cast<decltype(&(name))>(dlsym(RTLD_NEXT, #name)); \
    ferry::bench::EventCounter::Count(ferry::bench::EventCounter::kSyscalls);              \
    return next arguments;                                                                 \
  }

// ssize_t is long, socklen_t unsigned, and all structures are untouched pointers here.
COUNTED(long, read, (int fd, void* to, size_t n), (fd, to, n))
COUNTED(long, readv, (int fd, const void* parts, int n), (fd, parts, n))
COUNTED(long, recv, (int fd, void* to, size_t n, int flags), (fd, to, n, flags))
COUNTED(long, recvfrom, (int fd, void* to, size_t n, int flags, void* peer, unsigned* size),
        (fd, to, n, flags, peer, size))
COUNTED(long, recvmsg, (int fd, void* message, int flags), (fd, message, flags))
COUNTED(int, recvmmsg, (int fd, void* messages, unsigned n, int flags, void* timeout),
        (fd, messages, n, flags, timeout))
COUNTED(long, write, (int fd, const void* from, size_t n), (fd, from, n))
COUNTED(long, writev, (int fd, const void* parts, int n), (fd, parts, n))
COUNTED(long, send, (int fd, const void* from, size_t n, int flags), (fd, from, n, flags))
COUNTED(long, sendto, (int fd, const void* from, size_t n, int flags, const void* peer, unsigned size),
        (fd, from, n, flags, peer, size))
COUNTED(long, sendmsg, (int fd, const void* message, int flags), (fd, message, flags))
COUNTED(int, sendmmsg, (int fd, void* messages, unsigned n, int flags), (fd, messages, n, flags))
COUNTED(long, sendfile, (int to, int from, long* offset, size_t n), (to, from, offset, n))

COUNTED(int, epoll_ctl, (int epoll, int operation, int fd, void* event), (epoll, operation, fd, event))
COUNTED(int, epoll_wait, (int epoll, void* events, int n, int timeout), (epoll, events, n, timeout))
COUNTED(int, epoll_pwait, (int epoll, void* events, int n, int timeout, const void* signals),
        (epoll, events, n, timeout, signals))
COUNTED(int, epoll_pwait2, (int epoll, void* events, int n, const void* timeout, const void* signals),
        (epoll, events, n, timeout, signals))
COUNTED(int, poll, (void* fds, unsigned long n, int timeout), (fds, n, timeout))
COUNTED(int, ppoll, (void* fds, unsigned long n, const void* timeout, const void* signals),
        (fds, n, timeout, signals))
COUNTED(int, eventfd_read, (int fd, unsigned long* value), (fd, value))
COUNTED(int, eventfd_write, (int fd, unsigned long value), (fd, value))
COUNTED(int, timerfd_settime, (int fd, int flags, const void* value, void* old), (fd, flags, value, old))

COUNTED(int, sched_yield, (), ())
COUNTED(int, nanosleep, (const void* time, void* left), (time, left))
COUNTED(int, clock_nanosleep, (int clock, int flags, const void* time, void* left),
        (clock, flags, time, left))
COUNTED(int, accept, (int fd, void* peer, unsigned* size), (fd, peer, size))
COUNTED(int, accept4, (int fd, void* peer, unsigned* size, int flags), (fd, peer, size, flags))
COUNTED(int, shutdown, (int fd, int how), (fd, how))
COUNTED(int, getsockopt, (int fd, int level, int name, void* value, unsigned* size),
        (fd, level, name, value, size))
COUNTED(int, setsockopt, (int fd, int level, int name, const void* value, unsigned size),
        (fd, level, name, value, size))
COUNTED(int, close, (int fd), (fd))

// The kernel takes six arguments at most; those that the caller did not give are garbage that it does not
// look at.
extern "C" long syscall(long number, ...) {
  static const auto next = reinterpret_cast<decltype(&syscall)>(dlsym(RTLD_NEXT, "syscall"));
  ferry::bench::EventCounter::Count(ferry::bench::EventCounter::kSyscalls);
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#endif
#endif
