#include "ferry/benchmarks/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry::bench {
namespace {

// The server's end of the socket pair.
constexpr int kControlFd = 3;
// What the client sends when it wants the server's Usage.
constexpr int64_t kUsageNotRest = 0;

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& arguments, int control) {
  std::vector<char*> argv{const_cast<char*>("load")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, control, kControlFd);
  pid_t pid;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::ErrnoToStatus(error, "cannot start the server process");
  return pid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(
    const std::vector<std::string>& arguments) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    return absl::ErrnoToStatus(errno, "cannot make the server's control sockets");
  }
  const timeval limit{.tv_sec = 10, .tv_usec = 0};
  setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  absl::StatusOr<pid_t> pid = Spawn(arguments, ends[1]);
  close(ends[1]);
  if (!pid.ok()) {
    close(ends[0]);
    return pid.status();
  }
  std::unique_ptr<ServerProcess> process(new ServerProcess(ends[0], *pid));
  absl::Status status = process->AwaitAddress();
  if (!status.ok()) return status;
  return process;
}

absl::Status ServerProcess::AwaitAddress() {
  char text[512];
  const ssize_t size = recv(control_, text, sizeof(text), 0);
  if (size < 0) return absl::DeadlineExceededError("the server process says nothing");
  if (size == 0) return absl::UnavailableError("the server process ended at once");
  address_.assign(text + 1, static_cast<size_t>(size) - 1);
  if (text[0] == '!') return absl::UnavailableError(absl::StrCat("the server process: ", address_));
  return absl::OkStatus();
}

ServerProcess::~ServerProcess() {
  shutdown(control_, SHUT_WR);
  char ignored[512];
  while (recv(control_, ignored, sizeof(ignored), 0) > 0) continue;
  close(control_);
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Usage ServerProcess::TakeUsage() {
  Usage usage;
  Ask(kUsageNotRest);
  if (recv(control_, &usage, sizeof(usage), 0) != static_cast<ssize_t>(sizeof(usage))) return {};
  return usage;
}

void ServerProcess::BeginRest(int64_t since) { Ask(since); }

void ServerProcess::Ask(int64_t question) { send(control_, &question, sizeof(question), MSG_NOSIGNAL); }

std::optional<Rest> ServerProcess::AwaitRest() {
  Rest rest;
  if (recv(control_, &rest, sizeof(rest), 0) != static_cast<ssize_t>(sizeof(rest))) return std::nullopt;
  return rest;
}

int ServerProcess::Serve(absl::StatusOr<std::unique_ptr<EchoServer>> server) {
  // Were the parent gone already, recv below would say so.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  fcntl(kControlFd, F_SETFD, FD_CLOEXEC);
  const std::string first =
      server.ok() ? absl::StrCat("=", (*server)->address()) : absl::StrCat("!", server.status().ToString());
  send(kControlFd, first.data(), first.size(), MSG_NOSIGNAL);
  if (!server.ok()) return 1;
  // What the answers themselves have cost is none of the server's.
  int64_t bytes_answered = static_cast<int64_t>(first.size());
  int64_t question;
  while (recv(kControlFd, &question, sizeof(question), 0) == static_cast<ssize_t>(sizeof(question))) {
    if (question != kUsageNotRest) {
      const Rest rest = WatchRest(question);
      send(kControlFd, &rest, sizeof(rest), MSG_NOSIGNAL);
      continue;
    }
    Usage usage = Usage::SoFar();
    usage.bytes_written -= bytes_answered;
    send(kControlFd, &usage, sizeof(usage), MSG_NOSIGNAL);
    bytes_answered += static_cast<int64_t>(sizeof(usage));
  }
  return 0;
}

}  // namespace ferry::bench
