// Threads that take no signals.
#ifndef FERRY_TRANSPORT_SIGNALS_BLOCKED_H_
#define FERRY_TRANSPORT_SIGNALS_BLOCKED_H_

#include <pthread.h>
#include <signal.h>

namespace ferry::transport {

// While it lives, threads that this thread starts begin with all signals blocked: signals are for the
// application's own threads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_SIGNALS_BLOCKED_H_
