#include "ferry/rpc/health/health_service.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/health/health.ferry.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test {
namespace {

using e2e::Later;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using grpc::health::v1::HealthStub;
using Status = HealthService::Status;

HealthCheckRequest RequestFor(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

class HealthServiceTest : public testing::Test {
 protected:
  HealthServiceTest() { health_.AddTo(*server_); }

  HealthStub& Stub() {
    if (channel_ == nullptr) {
      absl::StatusOr<std::unique_ptr<Channel>> channel = CreateInProcessChannel(*server_);
      EXPECT_TRUE(channel.ok()) << channel.status();
      channel_ = *std::move(channel);
      stub_ = std::make_unique<HealthStub>(*channel_);
    }
    return *stub_;
  }

  absl::StatusOr<Status> Check(const std::string& service) {
    const absl::StatusOr<HealthCheckResponse> response = Stub().Check(RequestFor(service));
    if (!response.ok()) return response.status();
    return response->status();
  }

  static Status Next(ServerStream<HealthCheckResponse>& watch) {
    HealthCheckResponse response;
    EXPECT_TRUE(watch.Read(response)) << watch.Finish();
    return response.status();
  }

  HealthService health_{{.max_watches = 3}};
  std::unique_ptr<Server> server_ = std::make_unique<Server>(ServerOptions{.threads = 2});
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<HealthStub> stub_;
};

TEST_F(HealthServiceTest, ChecksWhatWasSet) {
  EXPECT_EQ(*Check(""), HealthService::kServing);
  EXPECT_TRUE(absl::IsNotFound(Check("shop").status()));
  health_.SetStatus("shop", HealthService::kNotServing);
  EXPECT_EQ(*Check("shop"), HealthService::kNotServing);
  health_.SetStatus("shop", HealthService::kServing);
  EXPECT_EQ(*Check("shop"), HealthService::kServing);
  health_.SetStatus("shop", HealthService::kServiceUnknown);
  const absl::Status unknown = Check("shop").status();
  EXPECT_TRUE(absl::IsNotFound(unknown));
  EXPECT_TRUE(absl::StrContains(unknown.message(), "'shop' is unknown")) << unknown;
}

TEST_F(HealthServiceTest, ChecksByCallback) {
  health_.SetStatus("shop", HealthService::kNotServing);
  Later<absl::StatusOr<HealthCheckResponse>> checked;
  Stub().Check(RequestFor("shop"), {},
               [&](absl::StatusOr<HealthCheckResponse> response) { checked.Set(std::move(response)); });
  ASSERT_TRUE(checked.Wait().ok()) << checked.Wait().status();
  EXPECT_EQ(checked.Wait()->status(), HealthService::kNotServing);
}

// Any client of grpc.health.v1 finds the names and numbers that it expects.
TEST_F(HealthServiceTest, IsTheStandardProtocol) {
  EXPECT_EQ(HealthCheckResponse::descriptor()->full_name(), "grpc.health.v1.HealthCheckResponse");
  EXPECT_EQ(HealthCheckRequest::descriptor()->file()->service(0)->full_name(), "grpc.health.v1.Health");
  EXPECT_EQ(RequestFor("a").SerializeAsString(), std::string("\x0a\x01"
                                                             "a"));
  HealthCheckResponse response;
  response.set_status(HealthService::kServiceUnknown);
  EXPECT_EQ(response.SerializeAsString(), std::string("\x08\x03"));
}

TEST_F(HealthServiceTest, AWatchSeesTheStatusAndEachChange) {
  health_.SetStatus("shop", HealthService::kNotServing);
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor("shop"));
  EXPECT_EQ(Next(watch), HealthService::kNotServing);
  health_.SetStatus("other", HealthService::kServing);
  health_.SetStatus("shop", HealthService::kNotServing);
  for (int i = 0; i < 3; ++i) {
    health_.SetStatus("shop", HealthService::kServing);
    EXPECT_EQ(Next(watch), HealthService::kServing);
    health_.SetStatus("shop", HealthService::kServiceUnknown);
    EXPECT_EQ(Next(watch), HealthService::kServiceUnknown);
  }
}

TEST_F(HealthServiceTest, AWatchOfAnUnknownServiceWaitsForIt) {
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor("later"));
  EXPECT_EQ(Next(watch), HealthService::kServiceUnknown);
  EXPECT_TRUE(absl::IsNotFound(Check("later").status()));
  health_.SetStatus("later", HealthService::kServing);
  EXPECT_EQ(Next(watch), HealthService::kServing);
}

TEST_F(HealthServiceTest, WhoReadsSlowlyGetsTheLatestStatus) {
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor(""));
  EXPECT_EQ(Next(watch), HealthService::kServing);
  // Far more than the stream's window of 1 MiB takes.
  constexpr int kChanges = 1'000'000;
  for (int i = 0; i < kChanges; ++i) {
    health_.SetStatus("", i % 2 == 0 ? HealthService::kNotServing : HealthService::kServing);
  }
  health_.SetStatus("", HealthService::kUnknown);
  int read = 1;
  while (Next(watch) != HealthService::kUnknown) ++read;
  EXPECT_LT(read, kChanges);
}

TEST_F(HealthServiceTest, WatchesAreCounted) {
  std::vector<ServerStream<HealthCheckResponse>> watches;
  for (int i = 0; i < 3; ++i) {
    watches.push_back(Stub().Watch(RequestFor("shop")));
    EXPECT_EQ(Next(watches.back()), HealthService::kServiceUnknown);
  }
  const absl::Status refused = Stub().Watch(RequestFor("shop")).Finish();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "limit is 3")) << refused;
  // One that has gone makes room.
  watches.pop_back();
  EXPECT_TRUE(e2e::Eventually([&] {
    ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor("shop"));
    HealthCheckResponse response;
    return watch.Read(response);
  }));
}

TEST_F(HealthServiceTest, RefusesLongNames) {
  const std::string longest(HealthService::kMaxNameBytes, 'x');
  EXPECT_TRUE(absl::IsNotFound(Check(longest).status()));
  for (const absl::Status& status :
       {Check(longest + 'x').status(), Stub().Watch(RequestFor(longest + 'x')).Finish()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_TRUE(absl::StrContains(status.message(), "is 1025 bytes, limit is 1024")) << status;
  }
}

TEST_F(HealthServiceTest, AfterShutdownNothingServes) {
  health_.SetStatus("shop", HealthService::kServing);
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor("shop"));
  EXPECT_EQ(Next(watch), HealthService::kServing);
  health_.Shutdown();
  EXPECT_EQ(Next(watch), HealthService::kNotServing);
  health_.SetStatus("shop", HealthService::kServing);
  health_.SetStatus("new", HealthService::kServing);
  EXPECT_EQ(*Check("shop"), HealthService::kNotServing);
  EXPECT_EQ(*Check(""), HealthService::kNotServing);
  EXPECT_TRUE(absl::IsNotFound(Check("new").status()));
}

TEST_F(HealthServiceTest, ADrainFlipsTheStatusAndEndsWatchesAtOnce) {
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor(""));
  ServerStream<HealthCheckResponse> unknown = Stub().Watch(RequestFor("unknown"));
  EXPECT_EQ(Next(watch), HealthService::kServing);
  EXPECT_EQ(Next(unknown), HealthService::kServiceUnknown);
  absl::StatusOr<Status> checked = absl::UnknownError("not run");
  server_->OnDrain([&] { checked = Check(""); });
  // Does not return while a call is in flight.
  server_->Shutdown(absl::InfiniteDuration());
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(*checked, HealthService::kNotServing);
  EXPECT_EQ(Next(watch), HealthService::kNotServing);
  const absl::Status ended = watch.Finish();
  EXPECT_TRUE(absl::IsUnavailable(ended));
  EXPECT_TRUE(absl::StrContains(ended.message(), "shuts down")) << ended;
  EXPECT_TRUE(absl::IsUnavailable(unknown.Finish()));
}

TEST_F(HealthServiceTest, AServerIsDestroyedWhileSomebodyWatches) {
  ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor(""));
  EXPECT_EQ(Next(watch), HealthService::kServing);
  server_.reset();
  health_.SetStatus("", HealthService::kNotServing);
  EXPECT_FALSE(watch.Finish().ok());
}

TEST_F(HealthServiceTest, StatusesChangeWhileWatchesComeAndGo) {
  Later<bool> done;
  absl::Status failed;
  std::thread setter([&] {
    for (int i = 0; i < 2'000; ++i) {
      health_.SetStatus("shop", i % 2 == 0 ? HealthService::kServing : HealthService::kServiceUnknown);
    }
    done.Set(true);
  });
  for (int i = 0; i < 200; ++i) {
    ServerStream<HealthCheckResponse> watch = Stub().Watch(RequestFor("shop"));
    HealthCheckResponse response;
    // The call before may still count.
    if (!watch.Read(response)) failed.Update(watch.Finish());
  }
  done.Wait();
  setter.join();
  EXPECT_TRUE(failed.ok() || absl::IsResourceExhausted(failed)) << failed;
}

}  // namespace
}  // namespace ferry::test
