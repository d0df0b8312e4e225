// Servers that are processes of their own.
#ifndef FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_
#define FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_

#include <optional>
#include <string>
#include <vector>

#include "tests/scenarios/child_process.h"

namespace ferry::scenarios {

// A ServerProcess is a program that listens on some addresses, and can be ended and started again on the
// same. The program writes its addresses as the first line of its output.
//
// Thread-compatible. Dies if it does not listen.
class ServerProcess {
 public:
  // Starts `program` with `arguments` and --addresses, whose ports may be 0, and waits until it listens.
  ServerProcess(std::string program, std::vector<std::string> addresses,
                std::vector<std::string> arguments = {});
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // SIGKILL, and waits for its end.
  void Kill();
  // SIGTERM, and waits for its end: it drains.
  void Terminate();
  // SIGSTOP and SIGCONT: its sockets stay, and nobody answers.
  void Freeze();
  void Thaw();
  // Starts it again, and waits until it listens. REQUIRES: it was killed or terminated.
  void StartAgain();

  // With the ports that were found for port 0.
  const std::vector<std::string>& addresses() const { return addresses_; }
  // The first, by which its answers name it.
  const std::string& address() const { return addresses_.front(); }

 private:
  void Start();

  const std::string program_;
  const std::vector<std::string> arguments_;
  std::vector<std::string> addresses_;
  std::optional<ChildProcess> process_;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_
