#include "ferry/rpc/names/new_resolver.h"

#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/list_resolver.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/rpc/names/target.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/told.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/temporary_directory.h"

namespace ferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class NewResolverTest : public testing::Test {
 protected:
  // The error, if there is no resolver; otherwise what it tells at once.
  absl::Status Resolve(const std::string& target, const ResolverOptions& options = {}) {
    absl::Status status;
    std::unique_ptr<Resolver> resolver;
    test::RunIn(*loop_, [&] {
      absl::StatusOr<std::unique_ptr<Resolver>> made = NewResolver(*ParseTarget(target), options, *loop_);
      status = made.status();
      if (!made.ok()) return;
      resolver = *std::move(made);
      resolver->Start(told_);
    });
    test::RunIn(*loop_, [&] { resolver.reset(); });
    return status;
  }

  transport::ManualClock clock_;
  const std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  test::Told told_;
};

TEST_F(NewResolverTest, MakesTheOneThatGoesWithTheTarget) {
  EXPECT_TRUE(Resolve("list:///10.0.0.1:80,unix:/a").ok());
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:80", "unix:/a"));

  const test::TemporaryDirectory directory;
  std::ofstream(directory.path() + "/servers") << "10.0.0.2:80 weight=2";
  EXPECT_TRUE(Resolve("file://" + directory.path() + "/servers").ok());
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:80 weight=2"));

  EXPECT_TRUE(Resolve("dns:///localhost:80").ok());
  EXPECT_THAT(told_.servers(), ElementsAre("localhost:80 at [::1]:80,127.0.0.1:80"));

  ResolverOptions options;
  options.etcd = [](const Target& target, transport::EventLoop& loop) {
    return NewListResolver({{.name = target.name, .addresses = {}, .locality = ""}}, loop);
  };
  EXPECT_TRUE(Resolve("etcd:///shop", options).ok());
  EXPECT_THAT(told_.servers(), ElementsAre(HasSubstr("shop")));
}

TEST_F(NewResolverTest, SaysWhatIsLacking) {
  const absl::Status status = Resolve("etcd:///shop");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("target \"etcd:///shop\": no resolver for etcd"));
}

TEST_F(NewResolverTest, MindsTheOptionsOfTheTargetsKind) {
  ResolverOptions options;
  options.dns.timeout = absl::ZeroDuration();
  options.file.settle = absl::ZeroDuration();
  EXPECT_TRUE(Resolve("10.0.0.1:80", options).ok());
  EXPECT_THAT(std::string(Resolve("a.test:80", options).message()), HasSubstr("timeout is 0"));
  EXPECT_THAT(std::string(Resolve("file:///a", options).message()), HasSubstr("settle is 0"));
  EXPECT_EQ(told_.count(), 1);
}

}  // namespace
}  // namespace ferry
