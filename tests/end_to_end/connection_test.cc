// Connections that cannot be made yet, are lost, and come back.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// An address with a port that was free a moment ago.
std::string RefusedAddress() {
  Server server({.threads = 1});
  EXPECT_TRUE(server.Listen("127.0.0.1:0").ok());
  return server.addresses()[0];
}

TEST(ConnectionTest, ThatIsRefusedFailsItsCallsAtOnce) {
  const TemporaryDirectory directory;
  const struct {
    std::string address;
    std::string reason;
  } kCases[] = {
      {RefusedAddress(), "refused"},
      {"unix:" + directory.path() + "/nobody", "No such file"},
      {"unix-abstract:" + directory.path(), "refused"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.address);
    const std::unique_ptr<Channel> channel = ChannelTo(c.address);
    ConformanceStub stub(*channel);
    // The second call comes while the channel waits before it tries again.
    for (int i = 0; i < 2; ++i) {
      const absl::Status status = stub.EchoInline(Message()).status();
      EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), c.address)) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), c.reason)) << status;
    }
  }
}

TEST(ConnectionTest, ToAMalformedAddressIsAnError) {
  const absl::Status status = Channel::Create("nonsense").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "nonsense")) << status;
}

TEST(ConnectionTest, WithOptionsThatCannotBeIsAnError) {
  const absl::Status status = Channel::Create("127.0.0.1:1", {.max_message = 1000}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "max_message is 1000")) << status;
}

TEST(ConnectionTest, IsWaitedForByCallsThatSaySo) {
  const TemporaryDirectory directory;
  const std::string address = NewAddress("unix", directory);
  const std::unique_ptr<Channel> channel =
      ChannelTo(address, {.min_backoff = absl::Milliseconds(20), .max_backoff = absl::Milliseconds(20)});
  ConformanceStub stub(*channel);
  std::vector<Later<absl::StatusOr<Message>>> waiting(10);
  for (size_t i = 0; i < waiting.size(); ++i) {
    stub.EchoInline(MessageOf(i, i * 20'000), {.wait_for_ready = true},
                    [&waiting, i](absl::StatusOr<Message> reply) { waiting[i].Set(std::move(reply)); });
  }
  // Those that do not say so fail meanwhile, and one whose deadline comes first says why it waited.
  EXPECT_EQ(stub.EchoInline(Message()).status().code(), StatusCode::kUnavailable);
  const absl::Status expired =
      stub.EchoInline(Message(), {.timeout = absl::Milliseconds(10), .wait_for_ready = true}).status();
  EXPECT_EQ(expired.code(), StatusCode::kDeadlineExceeded) << expired;
  EXPECT_TRUE(absl::StrContains(expired.message(), "before it could be sent: cannot connect")) << expired;

  TestConformance service;
  Server server({.threads = 1});
  server.Register(service);
  ASSERT_TRUE(server.Listen(address).ok());
  for (size_t i = 0; i < waiting.size(); ++i) {
    ASSERT_TRUE(waiting[i].Wait().ok()) << waiting[i].Wait().status();
    EXPECT_EQ(waiting[i].Wait()->id(), i);
    EXPECT_EQ(waiting[i].Wait()->payload(), MessageOf(i, i * 20'000).payload());
  }
}

TEST(ConnectionTest, ComesBackWhenTheServerDoes) {
  for (const std::string& transport : AvailableTransports()) {
    if (transport == "in-process") continue;
    SCOPED_TRACE(transport);
    const TemporaryDirectory directory;
    TestConformance service;
    std::string address = NewAddress(transport, directory);
    std::unique_ptr<Channel> channel;
    std::unique_ptr<ConformanceStub> stub;
    for (int life = 0; life < 3; ++life) {
      Server server({.threads = 2});
      server.Register(service);
      const absl::Status listening = server.Listen(address);
      ASSERT_TRUE(listening.ok()) << listening;
      if (channel == nullptr) {
        address = server.addresses()[0];
        channel = ChannelTo(address);
        stub = std::make_unique<ConformanceStub>(*channel);
      }
      const absl::StatusOr<Message> reply = stub->EchoInline(MessageOf(life, 5), {.wait_for_ready = true});
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->id(), static_cast<uint64_t>(life));
    }
    const absl::Status gone = stub->EchoInline(Message()).status();
    EXPECT_EQ(gone.code(), StatusCode::kUnavailable) << gone;
  }
}

TEST(ConnectionTest, ThatIsLostFailsItsCalls) {
  Served served;
  Later<absl::Status> ended;
  served.stub->Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  HeldCall held = served.service.TakeHeld();
  served.server.reset();
  EXPECT_EQ(ended.Wait().code(), StatusCode::kUnavailable) << ended.Wait();
  EXPECT_TRUE(absl::StrContains(ended.Wait().message(), served.address())) << ended.Wait();
  // The call object outlives its server.
  EXPECT_TRUE(held.context().cancelled());
  held.reply().set_id(1);
  std::move(held).Finish(absl::OkStatus());
}

TEST(ConnectionTest, OfEachChannelIsItsOwn) {
  Served served;
  std::vector<std::unique_ptr<Channel>> channels;
  channels.reserve(10);
  for (int i = 0; i < 10; ++i) channels.push_back(served.NewChannel());
  std::vector<std::string> peers;
  for (const std::unique_ptr<Channel>& channel : channels) {
    const absl::StatusOr<Message> reply = ConformanceStub(*channel).Describe(Message());
    ASSERT_TRUE(reply.ok()) << reply.status();
    for (const std::string& other : peers) EXPECT_NE(reply->peer(), other);
    peers.push_back(reply->peer());
  }
}

TEST(ConnectionTest, OfSeveralChannelsAndServersMayShareLoops) {
  const auto loops = transport::LoopGroup::Create({.threads = 2, .name = "shared"});
  ASSERT_TRUE(loops.ok());
  Served one("127.0.0.1:0", {.loops = loops->get()}, {.loops = loops->get()});
  Served two("unix", {.loops = loops->get()}, {.loops = loops->get()});
  Served three("in-process", {.loops = loops->get()}, {.loops = loops->get()});
  for (int i = 0; i < 10; ++i) {
    for (Served* served : {&one, &two, &three}) {
      const absl::StatusOr<Message> reply = served->stub->EchoInline(MessageOf(i, 100'000));
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->id(), static_cast<uint64_t>(i));
      EXPECT_TRUE(served->stub->EchoExecutor(Message()).ok());
    }
  }
}

}  // namespace
}  // namespace ferry::test::e2e
