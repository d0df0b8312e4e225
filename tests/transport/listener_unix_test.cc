// What is special about sockets that have a path.
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/listener.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transport/listener_fixture.h"

namespace ferry::transport {
namespace {

using testing::Each;
using testing::HasSubstr;

// A socket of its own kind bound to a path, as another program would.
FileDescriptor BindRaw(const std::string& path, int type) {
  const SocketAddress address = SocketAddress::UnixPath(path);
  FileDescriptor fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(fd.get(), address.data(), address.size()), 0);
  return fd;
}

bool Exists(const std::string& path) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0;
}

TEST_F(ListenerFixture, UnixConnectionsGoToTheLoopsInTurn) {
  StartLoops(3);
  Listen("unix:" + path_);
  std::vector<std::unique_ptr<Client>> clients;
  clients.reserve(9);
  for (int i = 0; i < 9; ++i) clients.push_back(Talk());
  EXPECT_THAT(server_->AcceptedByLoop(*loops_), Each(3));
}

TEST_F(ListenerFixture, ReplacesASocketFileThatIsLeftOver) {
  StartLoops(1);
  BindRaw(path_, SOCK_STREAM);
  ASSERT_TRUE(Exists(path_));
  Listen("unix:" + path_);
  Talk();
}

TEST_F(ListenerFixture, LeavesAloneAPathThatIsNoSocket) {
  StartLoops(1);
  std::ofstream(path_) << "precious";
  ExpectError("unix:" + path_, "the path exists and is not a socket");
  std::string content;
  std::ifstream(path_) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(ListenerFixture, LeavesAloneAListenerWhoseQueueIsFull) {
  StartLoops(1);
  const FileDescriptor busy = BindRaw(path_, SOCK_STREAM);
  ASSERT_EQ(listen(busy.get(), 0), 0);
  Client waiting("unix:" + path_);
  ASSERT_TRUE(waiting.Connect());
  ExpectError("unix:" + path_, "another server listens there");
  EXPECT_TRUE(Exists(path_));
}

TEST_F(ListenerFixture, LeavesAloneASocketOfAnotherKind) {
  StartLoops(1);
  const FileDescriptor log = BindRaw(path_, SOCK_DGRAM);
  ExpectError("unix:" + path_, "Protocol wrong type for socket");
  EXPECT_TRUE(Exists(path_));
}

TEST_F(ListenerFixture, NamesAPathThatCannotBeMade) {
  StartLoops(1);
  ExpectError("unix:" + directory_ + "/missing/socket", "No such file or directory");
}

TEST_F(ListenerFixture, RemovesItsSocketFile) {
  StartLoops(1);
  Listen("unix:" + path_);
  EXPECT_TRUE(Exists(path_));
  listener_.reset();
  EXPECT_FALSE(Exists(path_));
}

TEST_F(ListenerFixture, LeavesAFileThatHasReplacedItsOwn) {
  StartLoops(1);
  Listen("unix:" + path_);
  unlink(path_.c_str());
  const FileDescriptor successor = BindRaw(path_, SOCK_STREAM);
  listener_.reset();
  EXPECT_TRUE(Exists(path_));
}

TEST_F(ListenerFixture, TakesOverAPathIfItMay) {
  StartLoops(1);
  Listen("unix:" + path_);
  const std::unique_ptr<Client> before = Talk();
  std::unique_ptr<Listener> old = std::move(listener_);
  Listen("unix:" + path_, {.reuse_port = true});
  EXPECT_EQ(listener_->address(), "unix:" + path_);
  old.reset();
  // The file is the new one's.
  EXPECT_TRUE(Exists(path_));
  Talk();
  EXPECT_EQ(before->Exchange("still there"), "still there");
  listener_.reset();
  EXPECT_FALSE(Exists(path_));
}

TEST_F(ListenerFixture, NeedsRoomForAnotherNameToTakeOverAPath) {
  StartLoops(1);
  const std::string name = directory_ + "/" + std::string(107 - directory_.size() - 1, 'x');
  const absl::Status status = TryListen("unix:" + name, {.reuse_port = true}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("limit is 107"));
}

TEST_F(ListenerFixture, NoHandlerRunsOnAnyLoopWhenItIsGone) {
  StartLoops(3);
  Listen("unix:" + path_);
  absl::Notification go;
  loops_->loop(1).Post([&] { go.WaitForNotification(); });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(listener_->address()));
    ASSERT_TRUE(clients.back()->Connect());
  }
  // One is on its way to the loop that is busy.
  server_->WaitForAccepted(2);
  std::thread destroyer([this] {
    listener_.reset();
    server_->SetListenerGone();
  });
  while (Client("unix:" + path_).Connect()) std::this_thread::yield();
  for (int i = 0; i < 100; ++i) Fence(0);
  go.Notify();
  destroyer.join();
  Fence(1);
  EXPECT_GE(server_->accepted(), 3u);
  EXPECT_FALSE(server_->late());
}

}  // namespace
}  // namespace ferry::transport
