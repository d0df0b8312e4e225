#include "tests/scenarios/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"

namespace ferry::scenarios {

ServerProcess::ServerProcess(std::string binary, std::string address, std::vector<std::string> arguments)
    : binary_(std::move(binary)), arguments_(std::move(arguments)), address_(std::move(address)) {
  Start();
}

ServerProcess::~ServerProcess() {
  if (pid_ != 0) Kill();
}

void ServerProcess::Start() {
  std::vector<std::string> texts = {binary_, absl::StrCat("--address=", address_)};
  texts.insert(texts.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  argv.reserve(texts.size() + 1);
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  std::array<int, 2> output;
  FERRY_CHECK(pipe2(output.data(), O_CLOEXEC) == 0, "no pipe");
  const pid_t parent = getpid();
  pid_ = fork();
  FERRY_CHECK(pid_ >= 0, "cannot fork");
  if (pid_ == 0) {
    // Only what may be called after a fork of a process with threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(output[1], STDOUT_FILENO) < 0) _exit(127);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(output[1]);
  std::string line;
  for (char c = 0; read(output[0], &c, 1) == 1 && c != '\n';) line.push_back(c);
  close(output[0]);
  FERRY_CHECK(!line.empty(), absl::StrCat(binary_, " does not listen on ", address_).c_str());
  address_ = line;
}

void ServerProcess::End(int signal) {
  FERRY_CHECK(pid_ != 0, "the server was ended before");
  kill(pid_, signal);
  FERRY_CHECK(waitpid(std::exchange(pid_, 0), nullptr, 0) > 0, "cannot wait for the server");
}

void ServerProcess::Kill() { End(SIGKILL); }
void ServerProcess::Terminate() { End(SIGTERM); }
void ServerProcess::Freeze() { kill(pid_, SIGSTOP); }
void ServerProcess::Thaw() { kill(pid_, SIGCONT); }
void ServerProcess::StartAgain() { Start(); }

}  // namespace ferry::scenarios
