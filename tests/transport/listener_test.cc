// Listening on every kind of address, and running out of descriptors.
#include "ferry/transport/listener.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transport/listener_fixture.h"

namespace ferry::transport {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

bool HasIpv6() {
  FileDescriptor fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = Resolved("[::1]:0");
  return fd.open() && bind(fd.get(), address.data(), address.size()) == 0;
}

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
  // UBSan needs descriptors to look at the type of an object that it has not met: the listener learns of one
  // connection by an event before there are none.
  Fence(0);
  Talk();
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
  // Not above: a matcher is such an object too.
  EXPECT_THAT(problems,
              ElementsAre(AllOf(HasSubstr(absl::StrCat("accepting on ", listener_->address(), " pauses")),
                                HasSubstr("Too many open files"))));
  Fence(0);
  EXPECT_EQ(server_->accepted(), 1u);
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
