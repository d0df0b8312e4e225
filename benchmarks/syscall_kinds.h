// What kind of event a system call is.
#ifndef FERRY_BENCHMARKS_SYSCALL_KINDS_H_
#define FERRY_BENCHMARKS_SYSCALL_KINDS_H_

namespace ferry::bench {

// Each counts one call that has returned `result`, with its errno still in place. Thread-safe; they allocate
// nothing and leave errno alone.
void CountRead(int fd, long result);
void CountWrite(int fd, long result);
void CountWait(bool may_sleep, long result);
// `timeout` is a timespec, or null for ever.
void CountWait(const void* timeout, long result);
void CountPoll();
// A call by number, with these arguments.
void CountSyscall(long number, const long arguments[6], long result);
void CountOther();

// Whether `fd` is an eventfd from now on. Reads and writes of one are wake-ups.
void SetEventFd(int fd, bool is_event_fd);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_SYSCALL_KINDS_H_
