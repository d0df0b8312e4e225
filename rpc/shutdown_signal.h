// Stopping a server by a signal.
#ifndef FERRY_RPC_SHUTDOWN_SIGNAL_H_
#define FERRY_RPC_SHUTDOWN_SIGNAL_H_

#include <csignal>

namespace ferry {

// A ShutdownSignal waits for SIGTERM or SIGINT, so that a server ends its calls before its process ends:
//
//   int main() {
//     ferry::ShutdownSignal signal;   // first of all
//     ferry::Server server({});
//     ...
//     signal.Wait();
//     server.Shutdown(absl::Seconds(10));
//   }
//
// While it lives, and until Wait has returned, the two signals are blocked in the thread that made it and in
// those started from there: they wait for Wait, whenever they come. No code runs in a signal's context, and
// nothing is changed for the process as a whole. A second signal, after Wait, ends the process at once, in
// the usual way: a shutdown that takes too long can be cut short.
//
// To be made before any other thread is started, for one that does not block the signals would take them in
// the usual way. Ferry's own threads block all signals. Thread-compatible: belongs to the thread that made
// it.
class ShutdownSignal {
 public:
  ShutdownSignal();
  // The thread's signals are blocked or not as they were before.
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // Waits for one of the signals and returns which it was: SIGTERM or SIGINT. The thread blocks neither of
  // them any more then, nor do threads that it starts afterwards. REQUIRES: not called before.
  int Wait();

 private:
  const sigset_t signals_;
  sigset_t before_;
};

}  // namespace ferry

#endif  // FERRY_RPC_SHUTDOWN_SIGNAL_H_
