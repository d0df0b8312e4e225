// Serves one chat room on the address given, until SIGTERM or SIGINT.
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "examples/chat/chat_service.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/shutdown_signal.h"

int main(int argc, char** argv) {
  // Before any thread is made.
  ferry::ShutdownSignal stop;

  chat::RoomService room;
  ferry::Server server({.threads = 2});
  server.Register(room);
  if (absl::Status started = server.Listen(argc > 1 ? argv[1] : "127.0.0.1:0"); !started.ok()) {
    std::fprintf(stderr, "%s\n", started.ToString().c_str());
    return 1;
  }
  std::printf("%s\n", server.addresses().front().c_str());
  std::fflush(stdout);
  stop.Wait();
  // Members never leave by themselves: those who have not gone by then are cancelled.
  server.Shutdown(absl::Milliseconds(100));
}
