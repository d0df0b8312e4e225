// Serves one chat room on the address given, until SIGTERM or SIGINT.
#include <signal.h>

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "examples/chat/chat_service.h"
#include "ferry/rpc/server.h"

int main(int argc, char** argv) {
  // Before any thread is made, so that the signals wait for sigwait below.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);

  chat::RoomService room;
  ferry::Server server({.threads = 2});
  server.Register(room);
  if (absl::Status started = server.Listen(argc > 1 ? argv[1] : "127.0.0.1:0"); !started.ok()) {
    std::fprintf(stderr, "%s\n", started.ToString().c_str());
    return 1;
  }
  std::printf("%s\n", server.addresses().front().c_str());
  std::fflush(stdout);
  int signal;
  sigwait(&stop_signals, &signal);
  // Members never leave by themselves: they are cancelled.
  server.Shutdown(absl::ZeroDuration());
}
