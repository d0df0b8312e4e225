// How many connections a pool has, and for how long.
#include "ferry/rpc/connection_pool.h"

#include <algorithm>
#include <cstddef>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/connection_pool_fixture.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using test::TestCall;
using testing::IsEmpty;
using testing::SizeIs;

// ---------------------------------------------------------------- How many

TEST_F(ConnectionPoolTest, ConnectsWhenTheFirstCallComes) {
  Create({.max_connections = 4});
  EXPECT_THAT(script_.attempts, IsEmpty());
  TestCall& call = Start();
  EXPECT_THAT(script_.attempts, SizeIs(1));
  Greet(0);
  Answer(0);
  EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

TEST_F(ConnectionPoolTest, WarmsUpTheMinimumOnceTheServerIsThere) {
  Create({.min_connections = 3, .max_connections = 4});
  EXPECT_THAT(script_.attempts, SizeIs(1)) << "a server that may be down is tried once";
  GreetAll();
  EXPECT_EQ(made(), 3u);
}

TEST_F(ConnectionPoolTest, MakesTheMinimumAgainWhenOneIsLost) {
  Create({.min_connections = 2, .max_connections = 4});
  GreetAll();
  Lose(1);
  Advance(absl::Seconds(1));
  EXPECT_EQ(made(), 3u);
}

TEST_F(ConnectionPoolTest, DoesNotGrowBelowTheLimit) {
  Create({.max_connections = 4, .calls_per_connection = 3});
  StartMany(3);
  Greet(0);
  for (int i = 0; i < 20; ++i) {
    Answer(0);
    Start();
  }
  EXPECT_EQ(made(), 1u);
}

TEST_F(ConnectionPoolTest, GrowsAtTheLimit) {
  Create({.max_connections = 4, .calls_per_connection = 3});
  Start();
  Greet(0);
  StartMany(2);
  EXPECT_EQ(made(), 1u);
  StartMany(1);
  EXPECT_EQ(made(), 2u);
  EXPECT_EQ(CallsOn(0), 4u) << "no call waits for a handshake where it can be sent";
  Greet(1);
  StartMany(2);
  EXPECT_EQ(made(), 2u);
  EXPECT_EQ(CallsOn(1), 2u);
  StartMany(1);
  EXPECT_EQ(made(), 3u);
}

TEST_F(ConnectionPoolTest, DoesNotGrowBeyondTheMaximum) {
  Create({.max_connections = 3, .calls_per_connection = 2});
  Start();
  for (int i = 0; i < 30; ++i) {
    GreetAll();
    Start();
  }
  GreetAll();
  EXPECT_EQ(made(), 3u);
  // Calls went to the least busy.
  StartMany(5);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(CallsOn(i), 12u);
}

TEST_F(ConnectionPoolTest, GrowsAtOnceForCallsThatHaveWaited) {
  Create({.max_connections = 3, .calls_per_connection = 2});
  StartMany(5);
  EXPECT_THAT(script_.attempts, SizeIs(1));
  GreetAll();
  EXPECT_EQ(made(), 3u);
}

TEST_F(ConnectionPoolTest, ClosesWhatWasIdleForTooLong) {
  Create({.max_connections = 4, .calls_per_connection = 1, .idle_timeout = absl::Minutes(1)});
  Start();
  GreetAll();
  StartMany(2);
  GreetAll();
  ASSERT_EQ(made(), 3u);
  AnswerAll(0);
  AnswerAll(1);
  Advance(absl::Seconds(59));
  EXPECT_FALSE(IsClosed(1));
  Start();
  Advance(absl::Seconds(2));
  EXPECT_FALSE(IsClosed(0)) << "it had a call meanwhile";
  EXPECT_TRUE(IsClosed(1) || IsClosed(2));
}

TEST_F(ConnectionPoolTest, KeepsTheMinimumAlthoughItIsIdle) {
  Create({.min_connections = 2,
          .max_connections = 4,
          .calls_per_connection = 1,
          .idle_timeout = absl::Minutes(1)});
  GreetAll();
  StartMany(4);
  GreetAll();
  ASSERT_EQ(made(), 4u);
  for (size_t i = 0; i < 4; ++i) AnswerAll(i);
  Advance(absl::Hours(1));
  size_t open = 0;
  for (size_t i = 0; i < 4; ++i) open += IsClosed(i) ? 0 : 1;
  EXPECT_EQ(open, 2u);
  EXPECT_EQ(made(), 4u);
}

TEST_F(ConnectionPoolTest, ClosesEveryIdleConnectionWithoutAMinimum) {
  Create({.max_connections = 2, .idle_timeout = absl::Minutes(1)});
  Start();
  Greet(0);
  Answer(0);
  Advance(absl::Minutes(2));
  EXPECT_TRUE(IsClosed(0));
  EXPECT_THAT(Stats(), IsEmpty());
  TestCall& call = Start();
  Greet(1);
  Answer(1);
  EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

TEST_F(ConnectionPoolTest, AnIdleConnectionStaysWhileThereAreCallsForIt) {
  Create({.max_connections = 2, .calls_per_connection = 2, .idle_timeout = absl::Minutes(1)});
  StartMany(1);
  Greet(0);
  StartMany(2);
  Greet(1);
  ASSERT_EQ(CallsOn(0), 3u);
  for (int i = 0; i < 10; ++i) Advance(absl::Minutes(1));
  EXPECT_FALSE(IsClosed(1)) << "it would only be made again";
  Answer(0);
  for (int i = 0; i < 2; ++i) Advance(absl::Minutes(1));
  EXPECT_TRUE(IsClosed(1));
  EXPECT_EQ(made(), 2u);
}

TEST_F(ConnectionPoolTest, FewCallsKeepToTheFirstConnectionsSoThatOthersAreIdle) {
  Create({.max_connections = 3, .calls_per_connection = 2, .idle_timeout = absl::Minutes(1)});
  Start();
  GreetAll();
  StartMany(5);
  GreetAll();
  ASSERT_EQ(made(), 3u);
  for (size_t i = 0; i < 3; ++i) AnswerAll(i);
  for (int i = 0; i < 10; ++i) {
    StartMany(2);
    EXPECT_EQ(CallsOn(0), 2u);
    AnswerAll(0);
    Advance(absl::Seconds(10));
  }
  EXPECT_TRUE(IsClosed(1));
  EXPECT_TRUE(IsClosed(2));
}

// ---------------------------------------------------------------- Age

TEST_F(ConnectionPoolTest, AnOldConnectionServesUntilItsSuccessorIsReadyAndEndsItsCalls) {
  Create({.max_connections = 1, .max_age = absl::Minutes(10), .max_age_jitter = 0});
  TestCall& early = Start();
  Greet(0);
  Advance(absl::Minutes(10) - absl::Milliseconds(1));
  EXPECT_EQ(made(), 1u);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(made(), 2u);
  TestCall& meanwhile = Start();
  EXPECT_EQ(CallsOn(0), 2u);
  Greet(1);
  TestCall& late = Start();
  EXPECT_EQ(CallsOn(0), 2u);
  EXPECT_EQ(CallsOn(1), 1u);
  EXPECT_FALSE(IsClosed(0));
  AnswerAll(0);
  EXPECT_TRUE(early.ended && early.status.ok()) << early.status;
  EXPECT_TRUE(meanwhile.ended && meanwhile.status.ok()) << meanwhile.status;
  EXPECT_TRUE(IsClosed(0));
  Answer(1);
  EXPECT_TRUE(late.ended && late.status.ok()) << late.status;
  EXPECT_EQ(made(), 2u);
}

TEST_F(ConnectionPoolTest, AnOldConnectionGoesOnIfThereIsNoSuccessor) {
  Create({.max_age = absl::Minutes(10), .max_age_jitter = 0});
  Start();
  Greet(0);
  Answer(0);
  script_.failures = 3;
  Advance(absl::Minutes(10));
  for (int i = 0; i < 20; ++i) {
    TestCall& call = Start();
    Answer(0);
    EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
    Advance(absl::Milliseconds(10));
  }
  for (int i = 0; i < 60 && made() < 2; ++i) Advance(absl::Seconds(1));
  ASSERT_EQ(made(), 2u);
  EXPECT_FALSE(IsClosed(0));
  Greet(1);
  EXPECT_TRUE(IsClosed(0));
}

TEST_F(ConnectionPoolTest, ConnectionsThatWereMadeTogetherDoNotEndTogether) {
  constexpr size_t kConnections = 50;
  Create({.min_connections = kConnections,
          .max_connections = kConnections,
          .max_age = absl::Seconds(1000),
          .max_age_jitter = 0.5});
  GreetAll();
  ASSERT_EQ(made(), kConnections);
  Advance(absl::Seconds(499));
  EXPECT_EQ(made(), kConnections);
  // Uniformly over the second half.
  size_t most = 0;
  for (int i = 0; i < 10; ++i) {
    const size_t before = made();
    Advance(absl::Seconds(50));
    GreetAll();
    most = std::max(most, made() - before);
  }
  Advance(absl::Seconds(1));
  EXPECT_EQ(made(), 2 * kConnections);
  EXPECT_LT(most, 15u);
}

}  // namespace
}  // namespace ferry
