#include "ferry/transport/listener.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// An Echo sends back what it receives, in small amounts. Belongs to its loop.
class Echo final : private ByteStream::ReadyHandler {
 public:
  Echo(std::unique_ptr<ByteStream> stream, EventLoop& loop) : loop_(loop), stream_(std::move(stream)) {
    EXPECT_TRUE(stream_->Watch(loop_, *this).ok());
  }

  EventLoop& loop() const { return loop_; }
  void Close() { stream_->Close(); }

 private:
  void OnReady(bool, bool) override {
    char buffer[100];
    for (;;) {
      const iovec room = {.iov_base = buffer, .iov_len = sizeof buffer};
      const IoResult read = stream_->Read({&room, 1});
      if (read.state != IoResult::State::kDone) return;
      const iovec part = {.iov_base = buffer, .iov_len = read.bytes};
      EXPECT_EQ(stream_->Write({&part, 1}).bytes, read.bytes);
    }
  }

  EventLoop& loop_;
  const std::unique_ptr<ByteStream> stream_;
};

// An EchoServer echoes on every stream that is accepted, and remembers on which loop each was.
//
// Thread-safe.
class EchoServer final : public Listener::Handler {
 public:
  void OnAccepted(std::unique_ptr<ByteStream> stream, EventLoop& loop) override {
    loop.AssertInLoop();
    auto echo = std::make_unique<Echo>(std::move(stream), loop);
    absl::MutexLock lock(&mutex_);
    late_ |= listener_gone_;
    echoes_.push_back(std::move(echo));
  }

  void OnProblem(const std::string& line) override {
    absl::MutexLock lock(&mutex_);
    problems_.push_back(line);
  }

  void WaitForAccepted(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] {
      mutex_.AssertHeld();
      return echoes_.size() >= count;
    };
    mutex_.Await(absl::Condition(&enough));
  }

  void WaitForProblems(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] {
      mutex_.AssertHeld();
      return problems_.size() >= count;
    };
    mutex_.Await(absl::Condition(&enough));
  }

  size_t accepted() {
    absl::MutexLock lock(&mutex_);
    return echoes_.size();
  }

  // How many streams were accepted on each of `loops`.
  std::vector<int> AcceptedByLoop(const LoopGroup& loops) {
    absl::MutexLock lock(&mutex_);
    std::vector<int> counts(loops.size());
    for (size_t i = 0; i < loops.size(); ++i) {
      for (const std::unique_ptr<Echo>& echo : echoes_) counts[i] += &echo->loop() == &loops.loop(i);
    }
    return counts;
  }

  std::vector<std::string> problems() {
    absl::MutexLock lock(&mutex_);
    return problems_;
  }

  // To be called when the listener is destroyed.
  void SetListenerGone() {
    absl::MutexLock lock(&mutex_);
    listener_gone_ = true;
  }
  // Whether a stream came after that.
  bool late() {
    absl::MutexLock lock(&mutex_);
    return late_;
  }

  void CloseAll() {
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

 private:
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Echo>> echoes_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> problems_ ABSL_GUARDED_BY(mutex_);
  bool listener_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool late_ ABSL_GUARDED_BY(mutex_) = false;
};

SocketAddress Resolved(const std::string& address) { return Resolve(*Address::Parse(address))->front(); }

// A Client is a blocking socket.
class Client {
 public:
  explicit Client(const std::string& address) : address_(Resolved(address)) {
    socket_ = FileDescriptor(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(socket_.open());
  }

  bool Connect() { return connect(socket_.get(), address_.data(), address_.size()) == 0; }

  // Sends `bytes` and returns as many that come back.
  std::string Exchange(absl::string_view bytes) {
    EXPECT_EQ(send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    std::string answer(bytes.size(), '\0');
    const ssize_t received = recv(socket_.get(), answer.data(), answer.size(), MSG_WAITALL);
    answer.resize(received < 0 ? 0 : static_cast<size_t>(received));
    return answer;
  }

 private:
  const SocketAddress address_;
  FileDescriptor socket_;
};

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

bool HasIpv6() {
  FileDescriptor fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = Resolved("[::1]:0");
  return fd.open() && bind(fd.get(), address.data(), address.size()) == 0;
}

class ListenerFixture : public testing::Test {
 protected:
  ListenerFixture() {
    // The test's own directory has too long a name for a socket.
    char directory[] = "/tmp/ferry-listener-XXXXXX";
    EXPECT_NE(mkdtemp(directory), nullptr);
    directory_ = directory;
    path_ = directory_ + "/socket";
  }

  ~ListenerFixture() override {
    listener_.reset();
    server_->CloseAll();
    unlink(path_.c_str());
    EXPECT_EQ(rmdir(directory_.c_str()), 0);
  }

  void StartLoops(size_t threads, const Clock& clock = Clock::Real()) {
    absl::StatusOr<std::unique_ptr<LoopGroup>> loops =
        LoopGroup::Create({.threads = threads, .clock = &clock});
    ASSERT_TRUE(loops.ok()) << loops.status();
    loops_ = *std::move(loops);
  }

  absl::StatusOr<std::unique_ptr<Listener>> TryListen(const std::string& address,
                                                      const Listener::Options& options = {}) {
    return Listener::Create(*Address::Parse(address), options, *loops_, server_);
  }

  void Listen(const std::string& address, const Listener::Options& options = {}) {
    absl::StatusOr<std::unique_ptr<Listener>> listener = TryListen(address, options);
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }

  // The code and the text of the error of a try to listen.
  void ExpectError(const std::string& address, const std::string& why) {
    const absl::StatusOr<std::unique_ptr<Listener>> listener = TryListen(address);
    ASSERT_FALSE(listener.ok());
    EXPECT_THAT(std::string(listener.status().message()), AllOf(HasSubstr(address), HasSubstr(why)));
  }

  // Connects and is answered.
  std::unique_ptr<Client> Talk() {
    auto client = std::make_unique<Client>(listener_->address());
    EXPECT_TRUE(client->Connect());
    EXPECT_EQ(client->Exchange("hello"), "hello");
    return client;
  }

  // Waits until loop `i` has run a batch that began after this was called.
  void Fence(size_t i) {
    for (int batch = 0; batch < 2; ++batch) {
      absl::Notification done;
      loops_->loop(i).Post([&] { done.Notify(); });
      done.WaitForNotification();
    }
  }

  std::string directory_;
  std::string path_;
  ManualClock clock_;
  std::shared_ptr<EchoServer> server_ = std::make_shared<EchoServer>();
  std::unique_ptr<LoopGroup> loops_;
  std::unique_ptr<Listener> listener_;
};

// ---------------------------------------------------------------- Every kind of address, on one loop and on
// three

struct Place {
  const char* name;
  std::string address;  // "unix:" stands for a path that the test chooses
  size_t loops;

  friend void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }
};

class ListenerPlaceTest : public ListenerFixture, public testing::WithParamInterface<Place> {
 protected:
  void SetUp() override {
    if (absl::StartsWith(GetParam().address, "[") && !HasIpv6()) GTEST_SKIP() << "no IPv6 here";
    StartLoops(GetParam().loops);
    Listen(address());
  }

  std::string address() const {
    if (GetParam().address == "unix:") return "unix:" + path_;
    if (GetParam().address == "unix-abstract:") return "unix-abstract:" + path_;
    return GetParam().address;
  }
};

INSTANTIATE_TEST_SUITE_P(
    , ListenerPlaceTest,
    testing::Values(Place{"Ipv4OneLoop", "127.0.0.1:0", 1}, Place{"Ipv4ThreeLoops", "127.0.0.1:0", 3},
                    Place{"Ipv6OneLoop", "[::1]:0", 1}, Place{"Ipv6ThreeLoops", "[::1]:0", 3},
                    Place{"UnixOneLoop", "unix:", 1}, Place{"UnixThreeLoops", "unix:", 3},
                    Place{"AbstractOneLoop", "unix-abstract:", 1},
                    Place{"AbstractThreeLoops", "unix-abstract:", 3}),
    [](const testing::TestParamInfo<Place>& info) { return std::string(info.param.name); });

TEST_P(ListenerPlaceTest, ConnectionsCarryBytes) {
  std::vector<std::unique_ptr<Client>> clients;
  clients.reserve(10);
  for (int i = 0; i < 10; ++i) clients.push_back(Talk());
  for (const std::unique_ptr<Client>& client : clients)
    EXPECT_EQ(client->Exchange("still there"), "still there");
  EXPECT_EQ(server_->accepted(), 10u);
}

TEST_P(ListenerPlaceTest, EveryLoopHasConnections) {
  std::vector<std::unique_ptr<Client>> clients;
  // The kernel spreads by a hash of addresses; that one loop is left out 200 times has no probability.
  for (int i = 0; i < 200; ++i) {
    clients.push_back(Talk());
    const std::vector<int> counts = server_->AcceptedByLoop(*loops_);
    if (std::count(counts.begin(), counts.end(), 0) == 0) return;
  }
  ADD_FAILURE() << testing::PrintToString(server_->AcceptedByLoop(*loops_));
}

TEST_P(ListenerPlaceTest, SaysItsAddressInAFormThatCanBeConnectedTo) {
  const absl::StatusOr<Address> address = Address::Parse(listener_->address());
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->ToString(), listener_->address());
  if (address->kind() == Address::Kind::kTcp) {
    EXPECT_NE(address->port(), 0);
  } else {
    EXPECT_EQ(listener_->address(), this->address());
  }
}

TEST_P(ListenerPlaceTest, AnAddressInUseIsAnError) {
  const std::string address = listener_->address();
  ExpectError(address,
              absl::StartsWith(address, "unix:") ? "another server listens there" : "Address already in use");
  Talk();
}

TEST_P(ListenerPlaceTest, TakesNoConnectionsWhenItIsGone) {
  const std::string address = listener_->address();
  listener_.reset();
  EXPECT_FALSE(Client(address).Connect());
  Listen(address);
  Talk();
}

TEST_P(ListenerPlaceTest, TakesWhoeverHasConnectedBeforeItGoes) {
  std::vector<std::unique_ptr<Client>> clients;
  {
    // The loops are busy: connections wait.
    absl::Notification go;
    for (size_t i = 0; i < loops_->size(); ++i) loops_->loop(i).Post([&] { go.WaitForNotification(); });
    for (int i = 0; i < 20; ++i) {
      clients.push_back(std::make_unique<Client>(listener_->address()));
      ASSERT_TRUE(clients.back()->Connect());
    }
    // Before the loops learn of them by events: the listener's end is next in their queues.
    std::thread destroyer([this] { listener_.reset(); });
    go.Notify();
    destroyer.join();
  }
  EXPECT_EQ(server_->accepted(), 20u);
  for (const std::unique_ptr<Client>& client : clients) EXPECT_EQ(client->Exchange("hello"), "hello");
}

TEST_P(ListenerPlaceTest, ConnectionsOutliveTheListener) {
  const std::unique_ptr<Client> client = Talk();
  listener_.reset();
  EXPECT_EQ(client->Exchange("still there"), "still there");
}

// ---------------------------------------------------------------- TCP

TEST_F(ListenerFixture, SharesAPortOnlyIfBothSayTheyDo) {
  StartLoops(3);
  Listen("127.0.0.1:0", {.reuse_port = true});
  const absl::StatusOr<std::unique_ptr<Listener>> second =
      TryListen(listener_->address(), {.reuse_port = true});
  EXPECT_TRUE(second.ok()) << second.status();
  ExpectError(listener_->address(), "Address already in use");
  Talk();
}

TEST_F(ListenerFixture, NamesAHostThatIsNotOurs) {
  StartLoops(1);
  ExpectError("192.0.2.1:80", "cannot bind 192.0.2.1:80");
}

// ---------------------------------------------------------------- Unix sockets

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

// ---------------------------------------------------------------- Out of file descriptors

// While it lives the process can open no more descriptors.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const int next = dup(0);
    EXPECT_GE(next, 0);
    close(next);
    const rlimit now = {.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  ~NoMoreDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  NoMoreDescriptors(const NoMoreDescriptors&) = delete;
  NoMoreDescriptors& operator=(const NoMoreDescriptors&) = delete;

 private:
  rlimit before_;
};

TEST_F(ListenerFixture, PausesWhenItIsOutOfDescriptorsAndSaysSoOnce) {
  StartLoops(1, clock_);
  Listen("127.0.0.1:0", {.pause = absl::Milliseconds(100)});
  // Each is made while there are descriptors, and connects when there are none.
  Client first(listener_->address());
  Client second(listener_->address());
  Client third(listener_->address());
  Client fourth(listener_->address());
  std::vector<std::string> problems;
  {
    NoMoreDescriptors none;
    ASSERT_TRUE(first.Connect());
    server_->WaitForProblems(1);
    for (int i = 0; i < 5; ++i) {
      clock_.Advance(absl::Milliseconds(100));
      Fence(0);
    }
    // Not even another connection makes it try before its pause is over.
    ASSERT_TRUE(second.Connect());
    Fence(0);
    problems = server_->problems();
  }
  // Not above: UBSan needs descriptors to look at the type of an object, a matcher for example.
  EXPECT_THAT(problems,
              ElementsAre(AllOf(HasSubstr(absl::StrCat("accepting on ", listener_->address(), " pauses")),
                                HasSubstr("Too many open files"))));
  Fence(0);
  EXPECT_EQ(server_->accepted(), 0u);
  clock_.Advance(absl::Milliseconds(100));
  Fence(0);
  EXPECT_EQ(first.Exchange("hello"), "hello");
  EXPECT_EQ(second.Exchange("hello"), "hello");
  {
    NoMoreDescriptors none;
    ASSERT_TRUE(third.Connect());
    server_->WaitForProblems(2);
  }
  clock_.Advance(absl::Milliseconds(100));
  Fence(0);
  EXPECT_EQ(third.Exchange("hello"), "hello");
  ASSERT_TRUE(fourth.Connect());
  EXPECT_EQ(fourth.Exchange("hello"), "hello");
  EXPECT_EQ(server_->problems().size(), 2u);
}

}  // namespace
}  // namespace ferry::transport
