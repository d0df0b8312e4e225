#include "ferry/rpc/health_watch.h"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/budget.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/health/health.ferry.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"

namespace ferry::test {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using Health = HealthWatch::Health;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A FakeServer is a CallTarget whose calls do what the test says.
class FakeServer final : public CallTarget {
 public:
  explicit FakeServer(transport::EventLoop& loop) : loop_(loop) {}

  void Start(ClientCall& call, const google::protobuf::MessageLite& request, size_t) override {
    HealthCheckRequest parsed;
    EXPECT_TRUE(parsed.ParseFromString(request.SerializeAsString()));
    asked.push_back(parsed.service());
    methods.emplace_back(call.method->full_name);
    if (has_room) call.stream = transport::StreamId::Make(1, 0);
    call_ = &call;
  }
  void FailLater(ClientCall&, absl::Status) override {}
  void CancelLater(std::shared_ptr<ClientCall> call, absl::Status why) override {
    loop_.Post([this, call = std::move(call), why = std::move(why)] { CancelCall(*call, why); });
  }
  void CancelCall(ClientCall& call, absl::Status why) override {
    if (call_ == &call) call_ = nullptr;
    cancelled.push_back(why);
    call.End(std::move(why));
  }
  void Close(const absl::Status&) override {}
  bool has_failures() const override { return false; }
  size_t calls() override { return has_call() ? 1 : 0; }
  bool has_shared_calls() override { return has_call(); }
  void AppendConnections(std::vector<ConnectionStats>&) override {}
  transport::EventLoop& loop() const override { return loop_; }
  const WireSettings& settings() const override { return settings_; }

  // Whether calls are sent, and do not wait for that.
  bool has_room = true;

  bool has_call() const { return call_ != nullptr; }
  void Say(HealthCheckResponse::ServingStatus status) {
    HealthCheckResponse response;
    response.set_status(status);
    SayBytes(response.SerializeAsString());
  }
  void SayBytes(absl::string_view bytes) {
    size_t credit = 0;
    EXPECT_TRUE(call_->messages->queue().Append({.bytes = bytes}, bytes.size(), budget_, &credit).ok());
    loop_.RunUntilIdle();
  }
  void End(const absl::Status& status, Execution execution = Execution::kExecuted) {
    call_->execution = execution;
    std::exchange(call_, nullptr)->End(status);
    loop_.RunUntilIdle();
  }

  std::vector<std::string> asked;
  std::vector<std::string> methods;
  std::vector<absl::Status> cancelled;

 private:
  transport::EventLoop& loop_;
  const WireSettings settings_;
  const std::shared_ptr<Budget> budget_ = std::make_shared<Budget>(1024 * 1024);
  ClientCall* call_ = nullptr;
};

class HealthWatchTest : public testing::Test {
 protected:
  HealthWatchTest() {
    RunIn(*loop_, [this] { watch_->Start(); });
  }
  ~HealthWatchTest() override {
    RunIn(*loop_, [this] { watch_->Stop(); });
  }

  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }

  transport::ManualClock clock_;
  const std::unique_ptr<transport::EventLoop> loop_ = NewLoop({.clock = &clock_});
  const std::shared_ptr<FakeServer> server_ = std::make_shared<FakeServer>(*loop_);
  std::vector<Health> told_;
  const std::shared_ptr<HealthWatch> watch_ =
      std::make_shared<HealthWatch>(HealthWatch::Options{.service = "shop",
                                                         .answer_time = absl::Seconds(10),
                                                         .min_backoff = absl::Milliseconds(100),
                                                         .max_backoff = absl::Seconds(20),
                                                         .seed = 7},
                                    server_, [this] { told_.push_back(watch_->health()); });
};

TEST_F(HealthWatchTest, AsksInTheStandardProtocol) {
  EXPECT_THAT(server_->asked, ElementsAre("shop"));
  EXPECT_THAT(server_->methods, ElementsAre("grpc.health.v1.Health/Watch"));
  EXPECT_EQ(watch_->health(), Health::kUnknown);
}

TEST_F(HealthWatchTest, TellsEachChangeOnce) {
  server_->Say(HealthCheckResponse::SERVING);
  server_->Say(HealthCheckResponse::SERVING);
  server_->Say(HealthCheckResponse::NOT_SERVING);
  server_->Say(HealthCheckResponse::SERVING);
  EXPECT_THAT(told_, ElementsAre(Health::kServing, Health::kNotServing, Health::kServing));
}

TEST_F(HealthWatchTest, WhatIsNotServingIsNotServing) {
  server_->Say(HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_EQ(watch_->health(), Health::kNotServing);
  EXPECT_EQ(watch_->last_word(), "its health is SERVICE_UNKNOWN");
  server_->Say(HealthCheckResponse::SERVING);
  server_->Say(HealthCheckResponse::UNKNOWN);
  EXPECT_EQ(watch_->health(), Health::kNotServing);
  server_->Say(HealthCheckResponse::SERVING);
  // A status that nobody knows yet.
  server_->SayBytes("\x08\x09");
  EXPECT_EQ(watch_->health(), Health::kNotServing);
  EXPECT_EQ(watch_->last_word(), "its health is 9");
}

TEST_F(HealthWatchTest, AServerWithoutAHealthServiceServesAndIsNotAskedAgain) {
  server_->End(absl::UnimplementedError("no such method"), Execution::kNotSent);
  EXPECT_EQ(watch_->health(), Health::kServing);
  Advance(absl::Hours(1));
  EXPECT_THAT(server_->asked, SizeIs(1));
}

TEST_F(HealthWatchTest, TheLastWordCountsUntilThreeWatchesHaveFailed) {
  server_->Say(HealthCheckResponse::SERVING);
  server_->End(absl::InternalError("a bug"));
  for (int failed = 1; failed <= 3; ++failed) {
    Advance(absl::Seconds(1));
    ASSERT_TRUE(server_->has_call()) << failed;
    EXPECT_EQ(watch_->health(), Health::kServing) << failed;
    server_->End(absl::InternalError("a bug"));
  }
  EXPECT_EQ(watch_->health(), Health::kNotServing);
  EXPECT_EQ(watch_->last_word(), "it does not tell its health: a bug");
  Advance(absl::Seconds(20));
  server_->Say(HealthCheckResponse::SERVING);
  EXPECT_EQ(watch_->health(), Health::kServing);
}

TEST_F(HealthWatchTest, AnAnswerForgivesTheFailuresBeforeIt) {
  server_->Say(HealthCheckResponse::SERVING);
  for (int i = 0; i < 20; ++i) {
    server_->End(absl::OkStatus());
    Advance(absl::Seconds(20));
    if (i % 2 == 0) server_->Say(HealthCheckResponse::SERVING);
  }
  EXPECT_THAT(told_, ElementsAre(Health::kServing));
}

TEST_F(HealthWatchTest, AServerThatDoesNotAnswerFails) {
  for (int failed = 1; failed <= 3; ++failed) {
    EXPECT_EQ(watch_->health(), Health::kUnknown) << failed;
    Advance(absl::Seconds(9.9));
    EXPECT_THAT(server_->cancelled, SizeIs(failed - 1));
    Advance(absl::Seconds(0.1));
    EXPECT_THAT(server_->cancelled, SizeIs(failed));
    if (failed < 3) Advance(absl::Seconds(1));
  }
  EXPECT_THAT(told_, ElementsAre(Health::kNotServing));
  EXPECT_THAT(watch_->last_word(), HasSubstr("no answer for 10s"));
}

TEST_F(HealthWatchTest, AnAnswerHasNoTimeToFollowTheFirst) {
  server_->Say(HealthCheckResponse::SERVING);
  Advance(absl::Hours(24));
  EXPECT_TRUE(server_->has_call());
  EXPECT_THAT(server_->cancelled, IsEmpty());
}

TEST_F(HealthWatchTest, AWatchThatIsNotLetInSaysNothing) {
  server_->Say(HealthCheckResponse::SERVING);
  server_->End(absl::InternalError("a bug"));
  for (int i = 0; i < 20; ++i) {
    Advance(absl::Seconds(20));
    ASSERT_TRUE(server_->has_call());
    server_->End(absl::ResourceExhaustedError("no slot is free"), Execution::kNotSent);
  }
  EXPECT_EQ(watch_->health(), Health::kServing);
}

TEST_F(HealthWatchTest, AWatchThatWaitsForRoomSaysNothing) {
  server_->Say(HealthCheckResponse::SERVING);
  server_->has_room = false;
  server_->End(absl::InternalError("a bug"));
  for (int i = 0; i < 100; ++i) Advance(absl::Seconds(10));
  EXPECT_GT(server_->asked.size(), 5);
  EXPECT_EQ(watch_->health(), Health::kServing);
}

TEST_F(HealthWatchTest, IsBegunAnewAfterATime) {
  const auto renewed =
      std::make_shared<HealthWatch>(HealthWatch::Options{.renew_after = absl::Minutes(1), .seed = 7}, server_,
                                    [this] { told_.push_back(Health::kUnknown); });
  RunIn(*loop_, [&] { watch_->Stop(); });
  RunIn(*loop_, [&] { renewed->Start(); });
  const size_t asked = server_->asked.size();
  server_->Say(HealthCheckResponse::SERVING);
  for (size_t i = 1; i <= 5; ++i) {
    Advance(absl::Seconds(59));
    EXPECT_EQ(server_->asked.size(), asked + i - 1);
    Advance(absl::Seconds(1));
    EXPECT_EQ(server_->asked.size(), asked + i);
    EXPECT_EQ(renewed->health(), Health::kServing);
    server_->Say(HealthCheckResponse::SERVING);
  }
  EXPECT_THAT(told_, SizeIs(1));
  RunIn(*loop_, [&] { renewed->Stop(); });
}

TEST_F(HealthWatchTest, WatchesThatEndSoonAreAskedForLessAndLessOften) {
  const auto asked_within = [&](absl::Duration time) {
    const size_t before = server_->asked.size();
    for (absl::Duration t; t < time; t += absl::Milliseconds(10)) {
      if (server_->has_call()) {
        server_->Say(HealthCheckResponse::SERVING);
        server_->End(absl::OkStatus());
      }
      Advance(absl::Milliseconds(10));
    }
    return server_->asked.size() - before;
  };
  EXPECT_LT(asked_within(absl::Minutes(2)), 40);
  EXPECT_LT(asked_within(absl::Minutes(2)), 24);
}

TEST_F(HealthWatchTest, WhenItIsStoppedItAsksNoMoreAndKnowsNothing) {
  server_->Say(HealthCheckResponse::SERVING);
  RunIn(*loop_, [this] { watch_->Stop(); });
  EXPECT_FALSE(server_->has_call());
  EXPECT_EQ(watch_->health(), Health::kUnknown);
  Advance(absl::Hours(1));
  EXPECT_THAT(server_->asked, SizeIs(1));
  RunIn(*loop_, [this] { watch_->Start(); });
  EXPECT_THAT(server_->asked, SizeIs(2));
  server_->Say(HealthCheckResponse::SERVING);
  EXPECT_EQ(watch_->health(), Health::kServing);
}

TEST_F(HealthWatchTest, RefusesANameThatServersRefuse) {
  EXPECT_EQ(HealthWatch::Check(std::string(1024, 'x')), absl::OkStatus());
  EXPECT_EQ(HealthWatch::Check(std::string(1025, 'x')),
            absl::InvalidArgumentError("health_service is 1025 bytes, limit is 1024"));
}

}  // namespace
}  // namespace ferry::test
