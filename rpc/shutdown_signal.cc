#include "ferry/rpc/shutdown_signal.h"

#include <pthread.h>
#include <signal.h>

#include "ferry/transport/check.h"

namespace ferry {
namespace {

sigset_t ShutdownSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

ShutdownSignal::ShutdownSignal() : signals_(ShutdownSignals()) {
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
}

ShutdownSignal::~ShutdownSignal() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int ShutdownSignal::Wait() {
  int signal = 0;
  FERRY_CHECK(sigwait(&signals_, &signal) == 0, "cannot wait for signals");
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
  return signal;
}

}  // namespace ferry
