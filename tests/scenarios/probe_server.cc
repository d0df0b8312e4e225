// A server of the scenarios: a process that can be killed, stopped and started again.
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/shutdown_signal.h"
#include "ferry/rpc/task.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/clock.h"
#include "tests/scenarios/scenarios.ferry.h"

ABSL_FLAG(std::vector<std::string>, addresses, {"127.0.0.1:0"}, "where to listen");
ABSL_FLAG(absl::Duration, work, absl::ZeroDuration(), "how long each call takes");

namespace ferry::scenarios {
namespace {

class ProbeServer final : public ProbeService {
 public:
  explicit ProbeServer(absl::Duration work) : work_(work) {}
  void set_address(std::string address) { address_ = std::move(address); }

  Task<absl::Status> CoAsk(ServerContext& context, const ProbeRequest& request, ProbeReply& reply) override {
    NoteConnection(context.peer());
    reply.set_attempt(context.attempt());
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
  absl::Status Connections(ServerContext&, const ConnectionsRequest&, ConnectionsReply& reply) override {
    absl::MutexLock lock(&mutex_);
    for (const int64_t nanos : first_calls_) reply.add_first_call(nanos);
    return absl::OkStatus();
  }

 private:
  // A client that waits has called as soon as it is connected.
  void NoteConnection(const std::string& peer) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (seen_.insert(peer).second) first_calls_.push_back(transport::Clock::Real().Now().nanos);
  }

  const absl::Duration work_;
  std::string address_;
  absl::Mutex mutex_;
  absl::flat_hash_set<std::string> seen_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> first_calls_ ABSL_GUARDED_BY(mutex_);
};

// Says where it listens in one line, and serves until SIGTERM.
int Main() {
  ShutdownSignal signal;
  ProbeServer probe(absl::GetFlag(FLAGS_work));
  Server server(ServerOptions{.threads = 1, .reuse_port = true});
  server.Register(probe);
  const std::vector<std::string> addresses = absl::GetFlag(FLAGS_addresses);
  // Clients that know it may call as soon as we listen.
  probe.set_address(addresses.front());
  for (const std::string& address : addresses) {
    if (const absl::Status listening = server.Listen(address); !listening.ok()) {
      std::cerr << listening << std::endl;
      return 1;
    }
  }
  // Those that do not are told the port below.
  if (server.addresses().front() != addresses.front()) probe.set_address(server.addresses().front());
  std::cout << absl::StrJoin(server.addresses(), ",") << std::endl;
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
