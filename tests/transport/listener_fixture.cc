#include "tests/transport/listener_fixture.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/address.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/listener.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {

Echo::Echo(std::unique_ptr<ByteStream> stream, EventLoop& loop) : loop_(loop), stream_(std::move(stream)) {
  EXPECT_TRUE(stream_->Watch(loop_, *this).ok());
}

void Echo::OnReady(bool, bool) {
  char buffer[100];
  for (;;) {
    const iovec room = {.iov_base = buffer, .iov_len = sizeof buffer};
    const IoResult read = stream_->Read({&room, 1});
    if (read.state != IoResult::State::kDone) return;
    const iovec part = {.iov_base = buffer, .iov_len = read.bytes};
    EXPECT_EQ(stream_->Write({&part, 1}).bytes, read.bytes);
  }
}

void EchoServer::OnAccepted(std::unique_ptr<ByteStream> stream, EventLoop& loop) {
  loop.AssertInLoop();
  auto echo = std::make_unique<Echo>(std::move(stream), loop);
  absl::MutexLock lock(&mutex_);
  late_ |= listener_gone_;
  echoes_.push_back(std::move(echo));
}

void EchoServer::OnProblem(const std::string& line) {
  absl::MutexLock lock(&mutex_);
  problems_.push_back(line);
}

void EchoServer::WaitForAccepted(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&] {
    mutex_.AssertHeld();
    return echoes_.size() >= count;
  };
  mutex_.Await(absl::Condition(&enough));
}

void EchoServer::WaitForProblems(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&] {
    mutex_.AssertHeld();
    return problems_.size() >= count;
  };
  mutex_.Await(absl::Condition(&enough));
}

size_t EchoServer::accepted() {
  absl::MutexLock lock(&mutex_);
  return echoes_.size();
}

std::vector<int> EchoServer::AcceptedByLoop(const LoopGroup& loops) {
  absl::MutexLock lock(&mutex_);
  std::vector<int> counts(loops.size());
  for (size_t i = 0; i < loops.size(); ++i) {
    for (const std::unique_ptr<Echo>& echo : echoes_) counts[i] += &echo->loop() == &loops.loop(i);
  }
  return counts;
}

std::vector<std::string> EchoServer::problems() {
  absl::MutexLock lock(&mutex_);
  return problems_;
}

void EchoServer::SetListenerGone() {
  absl::MutexLock lock(&mutex_);
  listener_gone_ = true;
}

bool EchoServer::late() {
  absl::MutexLock lock(&mutex_);
  return late_;
}

void EchoServer::CloseAll() {
  absl::MutexLock lock(&mutex_);
  for (const std::unique_ptr<Echo>& echo : echoes_) {
    absl::Notification closed;
    echo->loop().Post([&] {
      echo->Close();
      closed.Notify();
    });
    closed.WaitForNotification();
  }
}

SocketAddress Resolved(const std::string& address) { return Resolve(*Address::Parse(address))->front(); }

Client::Client(const std::string& address) : address_(Resolved(address)) {
  socket_ = FileDescriptor(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(socket_.open());
}

bool Client::Connect() { return connect(socket_.get(), address_.data(), address_.size()) == 0; }

std::string Client::Exchange(absl::string_view bytes) {
  EXPECT_EQ(send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
  std::string answer(bytes.size(), '\0');
  const ssize_t received = recv(socket_.get(), answer.data(), answer.size(), MSG_WAITALL);
  answer.resize(received < 0 ? 0 : static_cast<size_t>(received));
  return answer;
}

ListenerFixture::ListenerFixture() {
  // The test's own directory has too long a name for a socket.
  char directory[] = "/tmp/ferry-listener-XXXXXX";
  EXPECT_NE(mkdtemp(directory), nullptr);
  directory_ = directory;
  path_ = directory_ + "/socket";
}

ListenerFixture::~ListenerFixture() {
  listener_.reset();
  server_->CloseAll();
  unlink(path_.c_str());
  EXPECT_EQ(rmdir(directory_.c_str()), 0);
}

void ListenerFixture::StartLoops(size_t threads, const Clock& clock) {
  absl::StatusOr<std::unique_ptr<LoopGroup>> loops = LoopGroup::Create({.threads = threads, .clock = &clock});
  ASSERT_TRUE(loops.ok()) << loops.status();
  loops_ = *std::move(loops);
}

absl::StatusOr<std::unique_ptr<Listener>> ListenerFixture::TryListen(const std::string& address,
                                                                     const Listener::Options& options) {
  return Listener::Create(*Address::Parse(address), options, *loops_, server_);
}

void ListenerFixture::Listen(const std::string& address, const Listener::Options& options) {
  absl::StatusOr<std::unique_ptr<Listener>> listener = TryListen(address, options);
  ASSERT_TRUE(listener.ok()) << listener.status();
  listener_ = *std::move(listener);
}

void ListenerFixture::ExpectError(const std::string& address, const std::string& why) {
  const absl::StatusOr<std::unique_ptr<Listener>> listener = TryListen(address);
  ASSERT_FALSE(listener.ok());
  EXPECT_THAT(std::string(listener.status().message()),
              testing::AllOf(testing::HasSubstr(address), testing::HasSubstr(why)));
}

std::unique_ptr<Client> ListenerFixture::Talk() {
  auto client = std::make_unique<Client>(listener_->address());
  EXPECT_TRUE(client->Connect());
  EXPECT_EQ(client->Exchange("hello"), "hello");
  return client;
}

void ListenerFixture::Fence(size_t i) {
  for (int batch = 0; batch < 2; ++batch) {
    absl::Notification done;
    loops_->loop(i).Post([&] { done.Notify(); });
    done.WaitForNotification();
  }
}

}  // namespace ferry::transport
