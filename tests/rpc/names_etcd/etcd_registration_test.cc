// Servers that register in a real etcd.
#include "ferry/rpc/names/etcd_registration.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/rpc/names_etcd/resolving.h"
#include "tests/testing/etcd_server.h"

namespace ferry::test {
namespace {

constexpr char kService[] = "/ferry/services/greeter/";
constexpr absl::Duration kLongTime = absl::Seconds(50);

class EtcdRegistrationTest : public testing::Test {
 protected:
  EtcdRegistration::Options Options() {
    return {.etcd = QuickEtcdOptions({etcd_.endpoint()}), .deregister_timeout = kLongTime};
  }

  static std::unique_ptr<EtcdRegistration> Register(const EtcdRegistration::Options& options,
                                                    const std::string& address = "127.0.0.1:7000") {
    absl::StatusOr<std::unique_ptr<EtcdRegistration>> made =
        EtcdRegistration::Create("greeter", address, options);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
  std::unique_ptr<EtcdRegistration> Registered(const std::string& address = "127.0.0.1:7000") {
    std::unique_ptr<EtcdRegistration> registration = Register(Options(), address);
    const absl::Status status = registration->AwaitRegistered(kLongTime);
    EXPECT_TRUE(status.ok()) << status;
    return registration;
  }
  // Waits for what only etcd knows.
  void AwaitCount(int64_t count) {
    while (etcd_.Count(kService) != count) std::this_thread::yield();
  }
  static void AwaitStatus(const EtcdRegistration& registration, absl::StatusCode code) {
    while (registration.status().code() != code) std::this_thread::yield();
  }

  EtcdServer etcd_;
};

TEST_F(EtcdRegistrationTest, IsSeenByResolversWithItsDetails) {
  EtcdRegistration::Options options = Options();
  options.details = {.weight = 7, .locality = "north/\"a\"", .priority = 2};
  const std::unique_ptr<EtcdRegistration> registration = Register(options, "[::1]:7000");
  const std::unique_ptr<EtcdRegistration> another = Registered("unix:/run/greeter");
  Resolving resolving(options.etcd);
  resolving.AwaitNames({"[::1]:7000", "unix:/run/greeter"});
  const ResolvedServer server = resolving.servers().front();
  EXPECT_EQ(server.weight, 7u);
  EXPECT_EQ(server.locality, "north/\"a\"");
  EXPECT_EQ(server.priority, 2u);
  EXPECT_TRUE(another->Deregister().ok());
  resolving.AwaitNames({"[::1]:7000"});
  EXPECT_TRUE(absl::IsFailedPrecondition(another->status()));
  EXPECT_TRUE(another->Deregister().ok());
}

TEST_F(EtcdRegistrationTest, ItsDestructorDeregisters) {
  Registered();
  EXPECT_EQ(etcd_.Count(kService), 0);
}

TEST_F(EtcdRegistrationTest, StaysWhileItLives) {
  const std::unique_ptr<EtcdRegistration> registration = Registered();
  const transport::Clock& clock = transport::Clock::Real();
  const transport::Instant end = clock.Now() + 3 * Options().etcd.ttl;
  while (clock.Now() < end) ASSERT_EQ(etcd_.Count(kService), 1);
}

TEST_F(EtcdRegistrationTest, RegistersAgainWhenItsLeaseIsLost) {
  const std::unique_ptr<EtcdRegistration> registration = Registered();
  Resolving resolving(Options().etcd);
  resolving.AwaitNames({"127.0.0.1:7000"});
  const size_t told = resolving.told();
  etcd_.RevokeLeases();
  // Clients keep it meanwhile.
  EXPECT_TRUE(absl::IsUnavailable(resolving.AwaitError("no server is registered")));
  resolving.AwaitNames({"127.0.0.1:7000"});
  resolving.AwaitTold(told + 2);
  AwaitCount(1);
  EXPECT_TRUE(registration->AwaitRegistered(kLongTime).ok());
}

TEST_F(EtcdRegistrationTest, RegistersAgainWhenEtcdIsBack) {
  const std::unique_ptr<EtcdRegistration> registration = Registered();
  for (const bool forgets : {false, true}) {
    SCOPED_TRACE(forgets);
    etcd_.Stop();
    AwaitStatus(*registration, absl::StatusCode::kUnavailable);
    const absl::Status status = registration->status();
    EXPECT_TRUE(absl::StrContains(status.message(), etcd_.endpoint())) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "registration of 127.0.0.1:7000 for service greeter"))
        << status;
    if (forgets) etcd_.Forget();
    etcd_.Start();
    EXPECT_TRUE(registration->AwaitRegistered(kLongTime).ok());
    AwaitCount(1);
  }
}

TEST_F(EtcdRegistrationTest, WaitsForAnEtcdThatIsNotThereYet) {
  etcd_.Stop();
  const std::unique_ptr<EtcdRegistration> registration = Register(Options());
  EXPECT_TRUE(absl::IsUnavailable(registration->AwaitRegistered(absl::ZeroDuration())));
  etcd_.Start();
  EXPECT_TRUE(registration->AwaitRegistered(kLongTime).ok());
  EXPECT_EQ(etcd_.Count(kService), 1);
}

TEST_F(EtcdRegistrationTest, AServerThatDrainsIsDropped) {
  auto server = std::make_unique<Server>(ServerOptions{.threads = 1});
  const std::unique_ptr<EtcdRegistration> registration = Registered();
  registration->DropOnDrain(*server);
  // One that has gone before the server.
  Registered("127.0.0.1:7001")->DropOnDrain(*server);
  EXPECT_EQ(etcd_.Count(kService), 1);
  server->Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(absl::IsFailedPrecondition(registration->status()));
  // Nobody waits for what will not be.
  EXPECT_TRUE(absl::IsFailedPrecondition(registration->AwaitRegistered(absl::InfiniteDuration())));
  AwaitCount(0);
  EXPECT_TRUE(registration->Deregister().ok());
}

TEST_F(EtcdRegistrationTest, DoesNotWaitForAnEtcdThatDoesNotAnswer) {
  EtcdRegistration::Options options = Options();
  options.deregister_timeout = absl::Milliseconds(200);
  std::unique_ptr<EtcdRegistration> registration = Register(options);
  ASSERT_TRUE(registration->AwaitRegistered(kLongTime).ok());
  etcd_.Pause();
  const absl::Status status = registration->Deregister();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  registration.reset();
  etcd_.Resume();
  // The lease runs out by itself.
  AwaitCount(0);
}

TEST_F(EtcdRegistrationTest, ANewOwnerOfTheAddressIsNotDroppedWithTheOld) {
  std::unique_ptr<EtcdRegistration> before = Registered();
  const std::unique_ptr<EtcdRegistration> after = Registered();
  before.reset();
  EXPECT_EQ(etcd_.Count(kService), 1);
}

TEST_F(EtcdRegistrationTest, RunsOnTheLoopsItIsGiven) {
  auto loops = transport::LoopGroup::Create({.threads = 1});
  ASSERT_TRUE(loops.ok());
  EtcdRegistration::Options options = Options();
  options.loops = loops->get();
  std::unique_ptr<EtcdRegistration> registration = Register(options);
  EXPECT_TRUE(registration->AwaitRegistered(kLongTime).ok());
  registration.reset();
  EXPECT_EQ(etcd_.Count(kService), 0);
}

TEST_F(EtcdRegistrationTest, SaysWhatCannotBeRegistered) {
  const struct {
    std::string service;
    std::string address;
    EtcdServerDetails details;
    std::string problem;
  } kCases[] = {
      {"a/b", "127.0.0.1:1", {}, "'a/b' has a '/'"},
      {"a", "host:1", {}, "host is not an IP address"},
      {"a", "127.0.0.1:0", {}, "has port 0"},
      {"a", "0.0.0.0:1", {}, "'0.0.0.0:1' stands for all interfaces"},
      {"a", "[::]:1", {}, "'[::]:1' stands for all interfaces"},
      {"a", "127.0.0.1:1", {.weight = 0}, "the weight is 0, the least is 1"},
      {"a", "127.0.0.1:1", {.locality = "\xff"}, "not UTF-8"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.problem);
    EtcdRegistration::Options options = Options();
    options.details = c.details;
    const absl::Status status = EtcdRegistration::Create(c.service, c.address, options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_TRUE(absl::StrContains(status.message(), c.problem)) << status;
  }
}

}  // namespace
}  // namespace ferry::test
