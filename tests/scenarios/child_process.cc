#include "tests/scenarios/child_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ferry/transport/check.h"

namespace ferry::scenarios {

ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> texts = {program};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(texts.size() + 1);
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  std::array<int, 2> sockets;
  FERRY_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) == 0, "no socket pair");
  const pid_t parent = getpid();
  pid_ = fork();
  FERRY_CHECK(pid_ >= 0, "cannot fork");
  if (pid_ == 0) {
    // Only what may be called after a fork of a process with threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(sockets[1], STDIN_FILENO) < 0 || dup2(sockets[1], STDOUT_FILENO) < 0) {
      _exit(127);
    }
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(sockets[1]);
  socket_ = sockets[0];
}

ChildProcess::~ChildProcess() {
  if (pid_ != 0) End(SIGKILL);
  close(socket_);
}

void ChildProcess::WriteLine(std::string_view line) {
  const std::string text = absl::StrCat(std::string(line), "\n");
  // A few bytes: they fit, or the peer has ended.
  (void)send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
}

std::optional<std::string> ChildProcess::ReadLine(absl::Duration at_most) {
  const absl::Time until = absl::Now() + at_most;
  while (read_.find('\n') == std::string::npos) {
    const absl::Duration left = std::max(until - absl::Now(), absl::ZeroDuration());
    pollfd readable = {.fd = socket_, .events = POLLIN, .revents = 0};
    const int ready = poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
    std::array<char, 256> some;
    const ssize_t size = ready > 0 ? read(socket_, some.data(), some.size()) : 0;
    if (size <= 0) return std::nullopt;
    read_.append(some.data(), static_cast<size_t>(size));
  }
  const size_t end = read_.find('\n');
  std::string line = read_.substr(0, end);
  read_.erase(0, end + 1);
  return line;
}

void ChildProcess::Signal(int signal) {
  FERRY_CHECK(pid_ != 0, "the program has ended before");
  kill(pid_, signal);
}

void ChildProcess::End(int signal) {
  Signal(signal);
  FERRY_CHECK(waitpid(std::exchange(pid_, 0), nullptr, 0) > 0, "cannot wait for the program's end");
}

}  // namespace ferry::scenarios
