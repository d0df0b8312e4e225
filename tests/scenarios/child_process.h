// Programs that a scenario starts, and talks with in lines.
#ifndef FERRY_TESTS_SCENARIOS_CHILD_PROCESS_H_
#define FERRY_TESTS_SCENARIOS_CHILD_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace ferry::scenarios {

// A ChildProcess is a program that runs beside this one. Its input and output are ours; it is killed when
// this process ends, however that is.
//
// Thread-compatible; to be started on a thread that lasts. Dies if a system call fails that cannot.
class ChildProcess {
 public:
  ChildProcess(const std::string& program, const std::vector<std::string>& arguments);
  // Kills it, and waits for its end.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Writes a line to its input; nothing if it has ended.
  void WriteLine(std::string_view line);
  // The next line of its output, without its end; nullopt if none comes within this time, or it has ended.
  std::optional<std::string> ReadLine(absl::Duration at_most);

  void Signal(int signal);
  // Sends a signal that ends it, and waits for its end.
  void End(int signal);

 private:
  // 0: it has ended.
  pid_t pid_ = 0;
  int socket_ = -1;
  std::string read_;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_CHILD_PROCESS_H_
