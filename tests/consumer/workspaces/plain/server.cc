// server ADDRESS: greets until it gets SIGTERM.
#include <csignal>
#include <iostream>

#include "ferry/rpc/server.h"
#include "greeter.ferry.h"

namespace {

class Greeter final : public consumer::GreeterService {
  absl::Status Greet(ferry::ServerContext&, const consumer::GreetRequest& request,
                     consumer::GreetReply& reply) override {
    reply.set_message("hello " + request.name());
    return absl::OkStatus();
  }
};

}  // namespace

int main(int, char** argv) {
  // Blocked before the server's threads begin, so that only this thread takes the signal.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Greeter greeter;
  ferry::Server server({});
  server.Register(greeter);
  if (absl::Status started = server.Listen(argv[1]); !started.ok()) {
    std::cerr << started << "\n";
    return 1;
  }
  int signal = 0;
  sigwait(&signals, &signal);
}
