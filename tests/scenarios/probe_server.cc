// A server of the scenarios: a process that can be killed, stopped and started again.
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/shutdown_signal.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "tests/scenarios/scenarios.ferry.h"

ABSL_FLAG(std::string, address, "127.0.0.1:0", "where to listen");
ABSL_FLAG(absl::Duration, work, absl::ZeroDuration(), "how long each call takes");

namespace ferry::scenarios {
namespace {

class ProbeServer final : public ProbeService {
 public:
  explicit ProbeServer(absl::Duration work) : work_(work) {}
  void set_address(std::string address) { address_ = std::move(address); }

  Task<absl::Status> CoAsk(ServerContext&, const ProbeRequest& request, ProbeReply& reply) override {
    if (work_ > absl::ZeroDuration()) {
      if (absl::Status worked = co_await Sleep(work_); !worked.ok()) co_return worked;
    }
    reply.set_id(request.id());
    reply.set_server(address_);
    co_return absl::OkStatus();
  }
  Task<absl::Status> CoChange(ServerContext& context, const ProbeRequest& request,
                              ProbeReply& reply) override {
    return CoAsk(context, request, reply);
  }

 private:
  const absl::Duration work_;
  std::string address_;
};

// Says where it listens in one line, and serves until SIGTERM.
int Main() {
  ShutdownSignal signal;
  ProbeServer probe(absl::GetFlag(FLAGS_work));
  Server server(ServerOptions{.threads = 1, .reuse_port = true});
  server.Register(probe);
  const absl::Status listening = server.Listen(absl::GetFlag(FLAGS_address));
  if (!listening.ok()) {
    std::cerr << listening << std::endl;
    return 1;
  }
  probe.set_address(server.addresses().front());
  std::cout << server.addresses().front() << std::endl;
  signal.Wait();
  server.Shutdown(absl::Seconds(5));
  return 0;
}

}  // namespace
}  // namespace ferry::scenarios

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return ferry::scenarios::Main();
}
