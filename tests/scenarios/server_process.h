// Servers that are processes of their own.
#ifndef FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_
#define FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace ferry::scenarios {

// A ServerProcess is a program that listens, and can be ended and started again on the same address. The
// program writes its address as the first line of its output; it is killed when this process ends, however
// that is.
//
// Thread-compatible. Dies if a system call fails that cannot.
class ServerProcess {
 public:
  // Starts `binary` with `arguments` and --address=`address`, whose port may be 0, and waits until it
  // listens.
  ServerProcess(std::string binary, std::string address, std::vector<std::string> arguments = {});
  // Kills it.
  ~ServerProcess();
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

  const std::string& address() const { return address_; }

 private:
  void Start();
  void End(int signal);

  const std::string binary_;
  const std::vector<std::string> arguments_;
  std::string address_;
  // 0: none runs.
  pid_t pid_ = 0;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_SERVER_PROCESS_H_
