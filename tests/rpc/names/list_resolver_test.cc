#include "ferry/rpc/names/list_resolver.h"

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/told.h"
#include "tests/testing/run_loop.h"

namespace ferry {
namespace {

using testing::ElementsAre;
using transport::SocketAddress;

TEST(ListResolverTest, TellsOnceAndNotInsideStart) {
  transport::ManualClock clock;
  const auto loop = test::NewLoop({.clock = &clock});
  test::Told told;
  std::unique_ptr<Resolver> resolver;
  test::RunIn(*loop, [&] {
    resolver = NewListResolver(
        {ServerAt(SocketAddress::UnixPath("/a")), ServerAt(SocketAddress::UnixPath("/b"))}, *loop);
    resolver->Start(told);
    EXPECT_EQ(told.count(), 0);
  });
  EXPECT_THAT(told.servers(), ElementsAre("unix:/a", "unix:/b"));
  test::RunIn(*loop, [&] { resolver->ResolveAgain(); });
  clock.Advance(absl::Hours(1));
  loop->RunUntilIdle();
  EXPECT_EQ(told.count(), 1);
  test::RunIn(*loop, [&] { resolver.reset(); });
}

TEST(ListResolverTest, TellsNothingOnceDestroyed) {
  const auto loop = test::NewLoop();
  test::Told told;
  test::RunIn(*loop, [&] {
    const std::unique_ptr<Resolver> resolver = NewListResolver({}, *loop);
    resolver->Start(told);
  });
  EXPECT_EQ(told.count(), 0);
}

}  // namespace
}  // namespace ferry
