// Serves Greeter on a free port, and registers it in etcd until SIGTERM or SIGINT.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "examples/greeter/greeter.ferry.h"
#include "ferry/rpc/health/health_service.h"
#include "ferry/rpc/names/etcd_registration.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/shutdown_signal.h"

namespace {

using examples::greeter::GreeterService;
using examples::greeter::GreetReply;
using examples::greeter::GreetRequest;

class Greeter final : public GreeterService {
 public:
  absl::Status Greet(ferry::ServerContext&, const GreetRequest& request, GreetReply& reply) override {
    reply.set_text(absl::StrCat("Hello, ", request.name(), "!"));
    return absl::OkStatus();
  }
};

}  // namespace

int main(int argc, char** argv) {
  // Before any thread is made.
  ferry::ShutdownSignal stop;
  ferry::EtcdRegistration::Options registration;
  if (argc > 1) registration.etcd.endpoints = {argv[1]};

  Greeter greeter;
  ferry::HealthService health;
  ferry::Server server({.threads = 1});
  server.Register(greeter);
  health.AddTo(server);
  if (const absl::Status listening = server.Listen("127.0.0.1:0"); !listening.ok()) {
    std::fprintf(stderr, "%s\n", listening.ToString().c_str());
    return 1;
  }
  const std::string address = server.addresses().front();
  absl::StatusOr<std::unique_ptr<ferry::EtcdRegistration>> entry =
      ferry::EtcdRegistration::Create("greeter", address, registration);
  if (!entry.ok()) {
    std::fprintf(stderr, "%s\n", entry.status().ToString().c_str());
    return 1;
  }
  // Clients are sent elsewhere before they are told to go.
  (*entry)->DropOnDrain(server);
  std::printf("listening on %s, etcd: %s\n", address.c_str(),
              (*entry)->AwaitRegistered(absl::Seconds(5)).ToString().c_str());
  std::fflush(stdout);

  stop.Wait();
  server.Shutdown(absl::Seconds(2));
  return 0;
}
