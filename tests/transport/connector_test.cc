#include "ferry/transport/connector.h"

#include <poll.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/socket_options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

using testing::HasSubstr;

// A Listening is a socket of this test's own, which accepts only when told to.
class Listening {
 public:
  enum class Kind { kBoundOnly, kListening };

  explicit Listening(const SocketAddress& address, Kind kind = Kind::kListening, int backlog = 10) {
    socket_ = FileDescriptor(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    ok_ = bind(socket_.get(), address.data(), address.size()) == 0;
    if (kind == Kind::kListening) ok_ = ok_ && listen(socket_.get(), backlog) == 0;
    ok_ = ok_ && getsockname(socket_.get(), address_.mutable_data(), address_.mutable_size()) == 0;
  }

  bool ok() const { return ok_; }
  const SocketAddress& address() const { return address_; }

  // Waits for the next connection.
  FileDescriptor Accept() { return FileDescriptor(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

  // Takes one connection of this test's into the queue, which a backlog of 0 is filled by.
  void FillQueue() {
    FileDescriptor client(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(client.get(), address_.data(), address_.size()), 0);
    pollfd arrived = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&arrived, 1, -1), 1);
    fillers_.push_back(std::move(client));
  }

 private:
  SocketAddress address_;
  FileDescriptor socket_;
  bool ok_ = false;
  std::vector<FileDescriptor> fillers_;
};

SocketAddress Resolved(const char* text) { return Resolve(*Address::Parse(text))->front(); }
SocketAddress AnyIpv4() { return Resolved("127.0.0.1:0"); }
// A name of the kernel's choice: bind(2), unix(7).
SocketAddress AnyAbstract() {
  const sa_family_t family = AF_UNIX;
  return SocketAddress(reinterpret_cast<const sockaddr*>(&family), sizeof family);
}

class ConnectorTest : public testing::Test {
 protected:
  ConnectorTest() : loop_(*EventLoop::Create({.clock = &clock_})) {}
  ~ConnectorTest() override {
    OnLoop([this] { attempt_.reset(); });
  }

  void OnLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }

  void Advance(absl::Duration time) {
    clock_.Advance(time);
    loop_->RunUntilIdle();
  }

  // Begins, as a task of the loop's; what comes is put into result_.
  void Connect(Connector& connector, absl::Duration timeout = absl::Seconds(10)) {
    result_.reset();
    OnLoop([&] {
      attempt_ = connector.Connect(*loop_, loop_->now() + timeout,
                                   [this](absl::StatusOr<std::unique_ptr<ByteStream>> r) {
                                     EXPECT_FALSE(result_.has_value()) << "told twice";
                                     result_ = std::move(r);
                                   });
      EXPECT_FALSE(result_.has_value()) << "told inside Connect";
    });
  }

  void ExpectError(const std::vector<std::string>& texts) {
    ASSERT_TRUE(result_.has_value());
    EXPECT_EQ(result_->status().code(), absl::StatusCode::kUnavailable);
    for (const std::string& text : texts)
      EXPECT_THAT(std::string(result_->status().message()), HasSubstr(text));
  }

  // `peer` and the stream that was made are two ends of one connection.
  void ExpectJoined(const FileDescriptor& peer) {
    ASSERT_TRUE(result_.has_value());
    ASSERT_TRUE(result_->ok()) << result_->status();
    ByteStream& stream = ***result_;
    char bytes[5] = {'h', 'e', 'l', 'l', 'o'};
    const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    EXPECT_EQ(stream.Write({&part, 1}).bytes, 5u);
    char received[5];
    EXPECT_EQ(recv(peer.get(), received, sizeof received, MSG_WAITALL), 5);
    EXPECT_EQ(std::string(received, 5), "hello");
  }

  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Connector::Attempt> attempt_;
  std::optional<absl::StatusOr<std::unique_ptr<ByteStream>>> result_;
};

TEST_F(ConnectorTest, ConnectsToEveryKindOfAddress) {
  struct Case {
    const char* name;
    SocketAddress address;
  };
  for (const Case& c :
       {Case{"IPv4", AnyIpv4()}, Case{"IPv6", Resolved("[::1]:0")}, Case{"abstract", AnyAbstract()}}) {
    SCOPED_TRACE(c.name);
    Listening server(c.address);
    if (!server.ok() && c.address.family() == AF_INET6) continue;  // not everywhere
    ASSERT_TRUE(server.ok());
    SocketConnector connector({server.address()}, {});
    Connect(connector);
    const FileDescriptor peer = server.Accept();
    loop_->RunUntilIdle();
    ExpectJoined(peer);
    EXPECT_EQ((**result_)->peer(), server.address().ToString());
  }
}

TEST_F(ConnectorTest, NeedsNoDeadline) {
  Listening server(AnyAbstract());
  SocketConnector connector({server.address()}, {});
  Connect(connector, absl::InfiniteDuration());
  ExpectJoined(server.Accept());
}

TEST_F(ConnectorTest, SaysWhoRefused) {
  const Listening closed(AnyIpv4(), Listening::Kind::kBoundOnly);
  SocketConnector connector({closed.address()}, {});
  Connect(connector);
  ExpectError({absl::StrCat("cannot connect to ", closed.address().ToString(), ": Connection refused")});
}

TEST_F(ConnectorTest, TakesTheFirstAddressThatAnswers) {
  const Listening closed(AnyIpv4(), Listening::Kind::kBoundOnly);
  Listening open(AnyAbstract());
  SocketConnector connector({closed.address(), open.address()}, {});
  Connect(connector);
  ExpectJoined(open.Accept());
}

TEST_F(ConnectorTest, SaysWhatWentWrongWithEachAddress) {
  const Listening first(AnyIpv4(), Listening::Kind::kBoundOnly);
  const Listening second(AnyAbstract(), Listening::Kind::kBoundOnly);
  SocketConnector connector({first.address(), second.address()}, {});
  Connect(connector);
  ExpectError(
      {first.address().ToString(), second.address().ToString(), "Connection refused (ECONNREFUSED); "});
}

TEST_F(ConnectorTest, SaysWhichOptionCannotBeHad) {
  const Listening server(AnyIpv4());
  SocketConnector connector({server.address()}, {.keepalive_probes = 1000});
  Connect(connector);
  ExpectError({"cannot set TCP_KEEPCNT to 1000"});
}

TEST_F(ConnectorTest, GivesUpAtTheDeadline) {
  struct Case {
    const char* name;
    SocketAddress address;
  };
  for (const Case& c : {Case{"TCP", AnyIpv4()}, Case{"Unix", AnyAbstract()}}) {
    SCOPED_TRACE(c.name);
    Listening full(c.address, Listening::Kind::kListening, /*backlog=*/0);
    full.FillQueue();
    SocketConnector connector({full.address()}, {});
    Connect(connector, absl::Seconds(10));
    Advance(absl::Seconds(10) - absl::Nanoseconds(1));
    EXPECT_FALSE(result_.has_value());
    Advance(absl::Nanoseconds(1));
    ExpectError({absl::StrCat("cannot connect to ", full.address().ToString(), ": no answer in time")});
  }
}

TEST_F(ConnectorTest, TriesAgainWhenAUnixQueueHasRoom) {
  Listening server(AnyAbstract(), Listening::Kind::kListening, /*backlog=*/0);
  server.FillQueue();
  SocketConnector connector({server.address()}, {});
  Connect(connector);
  Advance(absl::Seconds(1));
  EXPECT_FALSE(result_.has_value());
  server.Accept();
  Advance(absl::Seconds(1));
  ExpectJoined(server.Accept());
}

TEST_F(ConnectorTest, TriesTheNextAddressBesideOneThatIsSilent) {
  Listening silent(AnyIpv4(), Listening::Kind::kListening, /*backlog=*/0);
  silent.FillQueue();
  Listening open(AnyAbstract());
  SocketConnector connector({silent.address(), open.address()}, {});
  Connect(connector);
  Advance(SocketConnector::kAttemptDelay - absl::Nanoseconds(1));
  EXPECT_FALSE(result_.has_value());
  Advance(absl::Nanoseconds(1));
  ExpectJoined(open.Accept());
}

TEST_F(ConnectorTest, TheFirstThatAnswersWinsThoughItWasNotTheLastTried) {
  // Its queue has room again after the second has been tried.
  Listening slow(AnyAbstract(), Listening::Kind::kListening, /*backlog=*/0);
  slow.FillQueue();
  Listening silent(AnyIpv4(), Listening::Kind::kListening, /*backlog=*/0);
  silent.FillQueue();
  SocketConnector connector({slow.address(), silent.address()}, {});
  Connect(connector);
  Advance(absl::Seconds(1));
  EXPECT_FALSE(result_.has_value());
  slow.Accept();
  Advance(absl::Milliseconds(1));
  ExpectJoined(slow.Accept());
  Advance(absl::Seconds(10));  // the other try is not heard of any more
}

TEST_F(ConnectorTest, TriesTheNextAtOnceWhenOneFails) {
  const Listening closed(AnyIpv4(), Listening::Kind::kBoundOnly);
  const Listening closed_too(AnyAbstract(), Listening::Kind::kBoundOnly);
  Listening open(AnyIpv4());
  SocketConnector connector({closed.address(), closed_too.address(), open.address()}, {});
  Connect(connector);  // without any time passing
  ExpectJoined(open.Accept());
}

TEST_F(ConnectorTest, WaitsForTheOneBeforeIfTheDelayIsInfinite) {
  Listening silent(AnyIpv4(), Listening::Kind::kListening, /*backlog=*/0);
  silent.FillQueue();
  const Listening open(AnyAbstract());
  SocketConnector connector({silent.address(), open.address()}, {}, absl::InfiniteDuration());
  Connect(connector, absl::Seconds(10));
  Advance(absl::Seconds(10));
  ExpectError({absl::StrCat(silent.address().ToString(), ": no answer in time"),
               absl::StrCat("no time was left for ", open.address().ToString())});
}

TEST_F(ConnectorTest, SaysOfEachAddressThatItDidNotAnswer) {
  Listening one(AnyIpv4(), Listening::Kind::kListening, /*backlog=*/0);
  one.FillQueue();
  Listening two(AnyAbstract(), Listening::Kind::kListening, /*backlog=*/0);
  two.FillQueue();
  SocketConnector connector({one.address(), two.address()}, {});
  Connect(connector, absl::Seconds(10));
  for (int i = 0; i < 10; ++i) Advance(absl::Seconds(1));
  ExpectError({absl::StrCat(one.address().ToString(), ": no answer in time"),
               absl::StrCat(two.address().ToString(), ": no answer in time")});
}

TEST(InterleaveFamiliesTest, TakesTurns) {
  struct Case {
    const char* name;
    std::vector<const char*> addresses;
    std::vector<const char*> interleaved;
  };
  const Case kCases[] = {
      {"one", {"127.0.0.1:1"}, {"127.0.0.1:1"}},
      {"one family", {"127.0.0.2:1", "127.0.0.1:1"}, {"127.0.0.2:1", "127.0.0.1:1"}},
      {"IPv6 first",
       {"[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"},
       {"[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"}},
      {"IPv4 first",
       {"127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "[::2]:1"},
       {"127.0.0.1:1", "[::1]:1", "127.0.0.2:1", "[::2]:1"}},
      {"three families",
       {"127.0.0.1:1", "unix:/a", "127.0.0.2:1", "[::1]:1"},
       {"127.0.0.1:1", "unix:/a", "[::1]:1", "127.0.0.2:1"}},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    std::vector<SocketAddress> addresses;
    addresses.reserve(c.addresses.size());
    for (const char* text : c.addresses) addresses.push_back(Resolved(text));
    std::vector<std::string> interleaved;
    interleaved.reserve(c.interleaved.size());
    for (const SocketAddress& address : InterleaveFamilies(addresses))
      interleaved.push_back(address.ToString());
    EXPECT_THAT(interleaved, testing::ElementsAreArray(c.interleaved));
  }
}

TEST_F(ConnectorTest, TellsNothingOfAnAttemptThatIsDestroyed) {
  Listening open(AnyAbstract());
  Listening silent(AnyIpv4(), Listening::Kind::kListening, /*backlog=*/0);
  silent.FillQueue();
  SocketConnector to_open({open.address()}, {});
  SocketConnector to_silent({silent.address()}, {});
  OnLoop([&] {
    const auto told = [](absl::StatusOr<std::unique_ptr<ByteStream>>) { ADD_FAILURE(); };
    to_open.Connect(*loop_, Instant::Infinite(), told).reset();
    attempt_ = to_silent.Connect(*loop_, loop_->now() + absl::Seconds(10), told);
  });
  OnLoop([this] { attempt_.reset(); });
  Advance(absl::Seconds(10));
}

TEST_F(ConnectorTest, AnAttemptMayBeDestroyedByWhatItTells) {
  Listening open(AnyAbstract());
  const Listening closed(AnyIpv4(), Listening::Kind::kBoundOnly);
  for (const SocketAddress& address : {open.address(), closed.address()}) {
    SCOPED_TRACE(address.ToString());
    SocketConnector connector({address}, {});
    int told = 0;
    OnLoop([&] {
      attempt_ =
          connector.Connect(*loop_, Instant::Infinite(), [&](absl::StatusOr<std::unique_ptr<ByteStream>>) {
            attempt_.reset();
            ++told;
          });
    });
    EXPECT_EQ(told, 1);
  }
}

TEST_F(ConnectorTest, AMemoryConnectorHandsTheFarEndOver) {
  std::unique_ptr<ByteStream> far;
  MemoryConnector connector([&](std::unique_ptr<ByteStream> stream) {
    far = std::move(stream);
    return absl::OkStatus();
  });
  Connect(connector);
  ASSERT_TRUE(result_.has_value() && result_->ok());
  char bytes[5] = {'h', 'e', 'l', 'l', 'o'};
  char received[5];
  const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
  const iovec room = {.iov_base = received, .iov_len = sizeof received};
  EXPECT_EQ(far->Write({&part, 1}).bytes, 5u);
  EXPECT_EQ((**result_)->Read({&room, 1}).bytes, 5u);
  EXPECT_EQ(std::string(received, 5), "hello");
}

TEST_F(ConnectorTest, AMemoryConnectorPassesARefusalOn) {
  MemoryConnector connector(
      [](std::unique_ptr<ByteStream>) { return absl::UnavailableError("the server takes no more"); });
  Connect(connector);
  ExpectError({"the server takes no more"});
}

TEST_F(ConnectorTest, AMemoryAttemptThatIsDestroyedConnectsNothing) {
  MemoryConnector connector([](std::unique_ptr<ByteStream>) {
    ADD_FAILURE();
    return absl::OkStatus();
  });
  OnLoop([&] {
    connector
        .Connect(*loop_, Instant::Infinite(),
                 [](absl::StatusOr<std::unique_ptr<ByteStream>>) { ADD_FAILURE(); })
        .reset();
  });
}

}  // namespace
}  // namespace ferry::transport
