#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "benchmarks/echo.ferry.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/echo_service.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/check.h"

namespace ferry::bench {
namespace {

Rung Call(const std::string& name, const std::string& address, const LadderOptions& options) {
  EchoHandlers handlers;
  Server server({.threads = 1});
  server.Register(handlers);
  FERRY_CHECK(server.Listen(address).ok(), "cannot listen");
  auto channel = Channel::Create(server.addresses().front());
  FERRY_CHECK(channel.ok(), "no channel");
  EchoStub stub(**channel);
  EchoRequest request;
  request.set_payload(std::string(64, 'x'));
  EchoReply reply;
  return Measure(name, "64 bytes, blocking form, answered on the loop; both sides in one process", options,
                 [&] { FERRY_CHECK(stub.Echo(request, reply).ok(), "a call failed"); });
}

}  // namespace

Rungs CallRungs(const LadderOptions& options) {
  return {
      Call("Ferry call, TCP", "127.0.0.1:0", options),
      Call("Ferry call, Unix socket", absl::StrCat("unix-abstract:ferry-ladder-", getpid()), options),
  };
}

}  // namespace ferry::bench
