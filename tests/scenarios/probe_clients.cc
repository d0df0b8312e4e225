// Many clients of one server in one process, for scenarios in which they are to have little in common: what
// a process keeps for all its channels, as the cap on attempts to connect, is shared by few.
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/check.h"
#include "ferry/transport/loop_group.h"
#include "tests/scenarios/process_usage.h"
#include "tests/scenarios/scenarios.ferry.h"

ABSL_FLAG(std::string, server, "", "its address");
ABSL_FLAG(int, clients, 1, "how many");
ABSL_FLAG(absl::Duration, keepalive, absl::Seconds(1), "of each");

namespace ferry::scenarios {
namespace {

// Longer than any server is down.
constexpr absl::Duration kTimeout = absl::Seconds(100);

// A call of each client, which waits for the server; how many were answered.
int AskOnce(const std::vector<std::unique_ptr<Channel>>& channels) {
  std::atomic<int> answered{0};
  absl::BlockingCounter left(static_cast<int>(channels.size()));
  for (const std::unique_ptr<Channel>& channel : channels) {
    ProbeStub(*channel).Ask(ProbeRequest(), {.timeout = kTimeout, .wait_for_ready = true},
                            [&](const absl::StatusOr<ProbeReply>& reply) {
                              answered += reply.ok() ? 1 : 0;
                              left.DecrementCount();
                            });
  }
  left.Wait();
  return answered;
}

// For each line of input has each client make a call, and says in a line how many were answered, and how many
// threads there are then.
int Main() {
  absl::StatusOr<std::unique_ptr<transport::LoopGroup>> loops =
      transport::LoopGroup::Create({.threads = 1, .name = "clients"});
  FERRY_CHECK(loops.ok(), "no thread");
  std::vector<std::unique_ptr<Channel>> channels(absl::GetFlag(FLAGS_clients));
  for (std::unique_ptr<Channel>& channel : channels) {
    absl::StatusOr<std::unique_ptr<Channel>> created =
        Channel::Create(absl::StrCat("list:///", absl::GetFlag(FLAGS_server)),
                        {.loops = loops->get(), .keepalive_time = absl::GetFlag(FLAGS_keepalive)});
    FERRY_CHECK(created.ok(), created.status().ToString().c_str());
    channel = *std::move(created);
  }
  for (std::string line; std::getline(std::cin, line);) {
    const int answered = AskOnce(channels);
    std::cout << answered << " " << ThreadsOfProcess() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace ferry::scenarios

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return ferry::scenarios::Main();
}
