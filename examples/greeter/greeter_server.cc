// Serves Greeter on the addresses given, until SIGTERM or SIGINT.
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "examples/greeter/greeter.ferry.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/shutdown_signal.h"

namespace {

using examples::greeter::GreeterService;
using examples::greeter::GreetReply;
using examples::greeter::GreetRequest;

// [quickstart]
class Greeter final : public GreeterService {
 public:
  absl::Status Greet(ferry::ServerContext& context, const GreetRequest& request, GreetReply& reply) override {
    if (request.name().empty()) return absl::InvalidArgumentError("name is empty");
    reply.set_text(absl::StrCat("Hello, ", request.name(), "!"));
    const std::string* caller = context.request_metadata().Find("caller");
    if (caller != nullptr) context.initial_metadata().Add("caller", *caller);
    context.trailing_metadata().Add("served-by", "greeter");
    return absl::OkStatus();
  }

  // The call object may be finished later, on any thread.
  void StartGreetLater(ferry::UnaryCall<GreetRequest, GreetReply> call) override {
    std::thread([call = std::move(call)]() mutable {
      call.reply().set_text(absl::StrCat("Hello at last, ", call.request().name(), "!"));
      std::move(call).Finish(absl::OkStatus());
    }).detach();
  }
};
// [/quickstart]

}  // namespace

int main(int argc, char** argv) {
  // Before any thread is made.
  ferry::ShutdownSignal stop;

  const std::vector<std::string> wanted =
      argc > 1 ? std::vector<std::string>(argv + 1, argv + argc) : std::vector<std::string>{"127.0.0.1:0"};
  // [quickstart]
  Greeter greeter;
  ferry::Server server({.threads = 2});
  server.Register(greeter);
  for (const std::string& address : wanted) {
    if (absl::Status listening = server.Listen(address); !listening.ok()) {
      std::fprintf(stderr, "%s\n", listening.ToString().c_str());
      return 1;
    }
  }
  // [/quickstart]
  for (const std::string& address : server.addresses()) std::printf("listening on %s\n", address.c_str());
  std::fflush(stdout);

  stop.Wait();
  server.Shutdown(absl::Seconds(2));
  return 0;
}
