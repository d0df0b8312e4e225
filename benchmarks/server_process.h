// The server of a benchmark row, in a process of its own.
#ifndef FERRY_BENCHMARKS_SERVER_PROCESS_H_
#define FERRY_BENCHMARKS_SERVER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/rest.h"
#include "ferry/benchmarks/usage.h"

namespace ferry::bench {

// A ServerProcess is a run of this same program that serves until the ServerProcess is destroyed, or its own
// process ends in whatever way.
//
// The two talk over a socket pair, one packet a message:
//
//   server -> client   "=" and its address, or "!" and why there is none
//   client -> server   0; the server answers with its Usage. As often as one likes.
//   client -> server   the time at which the work ended; the server answers with its Rest, a second later.
//   the client closes; the server ends
//
// Thread-compatible.
class ServerProcess {
 public:
  // Runs this program with `arguments`, which make it call Serve, and waits until it does. DEADLINE_EXCEEDED
  // after ten seconds.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(const std::vector<std::string>& arguments);

  // Ends the server: it gets ten seconds to go by itself.
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& address() const { return address_; }

  // What the server has used so far. An empty Usage if it does not answer within ten seconds.
  Usage TakeUsage();

  // Has the server watch itself rest since `since`, and does nothing else meanwhile: AwaitRest returns what
  // came of it, or nothing if the server does not answer. REQUIRES: one Await for each Begin.
  void BeginRest(int64_t since);
  std::optional<Rest> AwaitRest();

  // For the server: keeps its end of what Start began, until the client closes. Returns the exit status.
  static int Serve(absl::StatusOr<std::unique_ptr<EchoServer>> server);

 private:
  ServerProcess(int control, pid_t pid) : control_(control), pid_(pid) {}
  absl::Status AwaitAddress();
  void Ask(int64_t question);

  const int control_;
  const pid_t pid_;
  std::string address_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_SERVER_PROCESS_H_
