// The programs of examples/fleet, with a real etcd, as somebody would try them.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"
#include "ferry/transport/posix.h"
#include "gtest/gtest.h"
#include "tests/testing/etcd_server.h"

namespace ferry::test::e2e {
namespace {

// A Program is a process of one of the examples' programs, and reads what it writes. It is killed with this,
// and with the test.
class Program {
 public:
  Program(const std::string& name, const std::string& etcd) {
    const std::string path = absl::StrCat("examples/fleet/", name);
    int ends[2];
    FERRY_CHECK(pipe2(ends, O_CLOEXEC) == 0, "no pipe");
    output_ = transport::FileDescriptor(ends[0]);
    const transport::FileDescriptor written(ends[1]);
    const pid_t parent = getpid();
    pid_ = fork();
    FERRY_CHECK(pid_ >= 0, "cannot fork");
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    dup2(written.get(), STDOUT_FILENO);
    execl(path.c_str(), path.c_str(), etcd.c_str(), nullptr);
    _exit(127);
  }
  ~Program() {
    if (pid_ > 0) End(SIGKILL);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Reads until one line is as wanted, and returns it; "" if the output ends before. A line ends where the
  // next begins, with either '\n' or '\r'. What never comes ends by Bazel's timeout.
  std::string AwaitLine(const std::function<bool(const std::string&)>& wanted) {
    for (;;) {
      const size_t end = unread_.find_first_of("\r\n");
      if (end == std::string::npos) {
        char bytes[4096];
        const ssize_t size = read(output_.get(), bytes, sizeof bytes);
        if (size <= 0) return "";
        unread_.append(bytes, static_cast<size_t>(size));
        continue;
      }
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      if (wanted(line)) return line;
    }
  }

  // Sends the signal, and returns what waitpid says of the end.
  int End(int signal) {
    kill(pid_, signal);
    int status = -1;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  transport::FileDescriptor output_;
  std::string unread_;
};

class FleetExampleTest : public testing::Test {
 protected:
  std::unique_ptr<Program> StartServer() {
    auto server = std::make_unique<Program>("fleet_server", etcd_.endpoint());
    const std::string line =
        server->AwaitLine([](const std::string& l) { return absl::StartsWith(l, "listening on "); });
    EXPECT_TRUE(absl::EndsWith(line, ", etcd: OK")) << line;
    return server;
  }

  // Waits until the client shows so many servers, "2 of 3 servers", twice with calls that are answered.
  static std::string AwaitCalls(Program& client, const std::string& servers) {
    std::string line;
    for (int i = 0; i < 2; ++i) {
      line = client.AwaitLine([&](const std::string& l) {
        return absl::StrContains(l, servers) && absl::StrContains(l, " calls/s, ") &&
               !absl::StrContains(l, " 0 calls/s");
      });
    }
    return line;
  }

  EtcdServer etcd_;
};

TEST_F(FleetExampleTest, CallsGoOnWhileServersComeAndGo) {
  std::vector<std::unique_ptr<Program>> servers;
  servers.push_back(StartServer());
  servers.push_back(StartServer());
  Program client("fleet_client", etcd_.endpoint());
  EXPECT_TRUE(absl::StrContains(AwaitCalls(client, "2 of 2 servers"), ", 0 failed"));
  // It takes leave of etcd and of its clients.
  EXPECT_EQ(servers[0]->End(SIGTERM), 0);
  EXPECT_TRUE(absl::StrContains(AwaitCalls(client, "1 of 1 servers"), ", 0 failed"));
  servers.push_back(StartServer());
  EXPECT_TRUE(absl::StrContains(AwaitCalls(client, "2 of 2 servers"), ", 0 failed"));
  // It takes no leave: etcd keeps it for a while.
  const int killed = servers[1]->End(SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL);
  EXPECT_TRUE(absl::StrContains(AwaitCalls(client, "1 of 2 servers"), ", 0 failed"));
  EXPECT_EQ(client.End(SIGTERM), 0);
  const std::string last =
      client.AwaitLine([](const std::string& l) { return absl::StrContains(l, " calls answered, "); });
  EXPECT_TRUE(absl::EndsWith(last, " calls answered, 0 failed")) << last;
  EXPECT_GT(std::atoi(last.c_str()), 0);
  EXPECT_EQ(servers[2]->End(SIGTERM), 0);
}

TEST_F(FleetExampleTest, TheClientShowsWhyNobodyAnswers) {
  Program client("fleet_client", etcd_.endpoint());
  const std::string line = client.AwaitLine(
      [](const std::string& l) { return absl::StrContains(l, "service greeter: no server is registered"); });
  EXPECT_TRUE(absl::StrContains(line, " 0 calls/s, 0 of 0 servers, ")) << line;
  const std::unique_ptr<Program> server = StartServer();
  AwaitCalls(client, "1 of 1 servers");
  EXPECT_EQ(client.End(SIGTERM), 0);
  EXPECT_EQ(server->End(SIGTERM), 0);
}

}  // namespace
}  // namespace ferry::test::e2e
