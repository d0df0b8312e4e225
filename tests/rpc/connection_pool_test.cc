// How many connections a pool has, and which calls go where.
#include "ferry/rpc/connection_pool.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/pool_options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/connection_pool_fixture.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::TestCall;
using testing::HasSubstr;
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

// ---------------------------------------------------------------- Exclusive

TEST_F(ConnectionPoolTest, AnExclusiveConnectionHasOneCall) {
  Create({.max_connections = 3, .exclusive = true});
  Start();
  GreetAll();
  StartMany(7);
  GreetAll();
  EXPECT_EQ(made(), 3u);
  for (int answered = 0; answered < 8;) {
    for (size_t i = 0; i < 3; ++i) {
      const size_t calls = CallsOn(i);
      EXPECT_LE(calls, 1u);
      if (calls == 0) continue;
      Answer(i);
      ++answered;
    }
  }
  for (const TestCall& call : calls_) EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

TEST_F(ConnectionPoolTest, ExclusiveCallsThatWaitAreSentInTheirOrder) {
  Create({.exclusive = true});
  StartMany(3);
  Greet(0);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(calls_[i].ended);
    Answer(0);
    EXPECT_TRUE(calls_[i].ended);
  }
}

TEST_F(ConnectionPoolTest, ACallThatWasStartedByACallbackWaitsBehindThoseThatWait) {
  Create({.exclusive = true});
  TestCall& first = Start();
  TestCall& second = Start();
  TestCall& third = NewCall();
  first.on_end = [&] { pool_->Start(third, third.request, third.request.ByteSizeLong()); };
  Greet(0);
  Answer(0);
  ASSERT_TRUE(first.ended);
  Answer(0);
  EXPECT_TRUE(second.ended);
  EXPECT_FALSE(third.ended);
  Answer(0);
  EXPECT_TRUE(third.ended);
}

TEST_F(ConnectionPoolTest, AnExclusiveCallNeedNotWaitForThatOfAnOldConnection) {
  Create({.exclusive = true, .max_age = absl::Minutes(1), .max_age_jitter = 0});
  TestCall& old = Start();
  Greet(0);
  Advance(absl::Minutes(1));
  TestCall& meanwhile = Start();
  EXPECT_EQ(CallsOn(0), 1u);
  Greet(1);
  EXPECT_EQ(CallsOn(1), 1u);
  StartMany(1);
  EXPECT_EQ(CallsOn(1), 1u) << "one at a time there, too";
  Answer(0);
  EXPECT_TRUE(old.ended && old.status.ok()) << old.status;
  EXPECT_TRUE(IsClosed(0));
  EXPECT_EQ(CallsOn(1), 1u);
  Answer(1);
  EXPECT_TRUE(meanwhile.ended && meanwhile.status.ok()) << meanwhile.status;
  EXPECT_EQ(CallsOn(1), 1u);
  EXPECT_EQ(made(), 2u);
}

// ---------------------------------------------------------------- Full

TEST_F(ConnectionPoolTest, FailsWhenEveryExclusiveConnectionHasACall) {
  Create({.max_connections = 2, .exclusive = true, .when_full = PoolOptions::WhenFull::kFail});
  StartMany(2);
  TestCall& third = Start();
  EXPECT_EQ(third.status, absl::ResourceExhaustedError(
                              "2 calls have or wait for a connection each, limit is 2 connections"));
  GreetAll();
  EXPECT_EQ(Start().status.code(), StatusCode::kResourceExhausted);
  Answer(0);
  EXPECT_FALSE(Start().ended);
}

TEST_F(ConnectionPoolTest, FailsWhenTheServerAllowsNoMoreCalls) {
  settings_.max_streams = 3;
  Create({.max_connections = 2, .calls_per_connection = 1, .when_full = PoolOptions::WhenFull::kFail});
  Start();
  GreetAll();
  StartMany(1);
  GreetAll();
  StartMany(2);
  ASSERT_EQ(made(), 2u);
  TestCall& one_too_many = Start();
  EXPECT_EQ(one_too_many.status,
            absl::ResourceExhaustedError("4 calls are in flight on 2 connections, limit is 2 on each of 2"));
  for (size_t i = 0; i < 4; ++i) EXPECT_FALSE(calls_[i].ended);
}

TEST_F(ConnectionPoolTest, CallsWaitForSlotsOfTheServer) {
  settings_.max_streams = 3;
  Create({.max_connections = 2, .calls_per_connection = 1});
  Start();
  GreetAll();
  StartMany(1);
  GreetAll();
  StartMany(3);
  TestCall& last = Start();
  EXPECT_EQ(CallsOn(0) + CallsOn(1), 4u);
  Answer(1);
  Answer(1);
  EXPECT_EQ(CallsOn(1), 2u);
  AnswerAll(1);
  EXPECT_TRUE(last.ended && last.status.ok()) << last.status;
}

TEST_F(ConnectionPoolTest, AsManyCallsWaitInAllAsTheOptionsSay) {
  Create({.max_connections = 2, .exclusive = true}, {.max_waiting_calls = 3});
  Start();
  GreetAll();
  StartMany(1);
  GreetAll();
  StartMany(3);
  EXPECT_EQ(Start().status, absl::ResourceExhaustedError("3 calls wait for a connection, limit is 3"));
  Answer(0);
  EXPECT_FALSE(Start().ended);
}

TEST_F(ConnectionPoolTest, AsManyBytesWaitInAllAsTheOptionsSay) {
  const size_t size = TestCall().request.ByteSizeLong();
  Create({.exclusive = true}, {.max_waiting_bytes = 2 * size});
  StartMany(2);
  EXPECT_EQ(Start().status,
            absl::ResourceExhaustedError(
                absl::StrCat(3 * size, " bytes of requests wait for a connection, ", "limit is ", 2 * size)));
  Greet(0);
  EXPECT_FALSE(Start().ended);
}

// ---------------------------------------------------------------- Options

TEST(PoolOptionsTest, RefusesWhatIsOutOfBounds) {
  struct Case {
    const char* name;
    PoolOptions options;
    bool of_service;
    const char* message;
  };
  const Case kCases[] = {
      {"none", {.max_connections = 0}, false, "pool.max_connections is 0, must be in [1, 1024]"},
      {"many", {.max_connections = 1025}, false, "pool.max_connections is 1025, must be in [1, 1024]"},
      {"min over max",
       {.min_connections = 3, .max_connections = 2},
       false,
       "pool.min_connections is 3, must be in [0, 2]"},
      {"no min in a service", {.min_connections = 0}, true, "pool.min_connections is 0, must be in [1, 1]"},
      {"no calls", {.calls_per_connection = 0}, false, "pool.calls_per_connection is 0, must be at least 1"},
      {"never idle",
       {.idle_timeout = absl::ZeroDuration()},
       false,
       "pool.idle_timeout is 0, must be at least 1ms"},
      {"young", {.max_age = absl::Microseconds(1)}, false, "pool.max_age is 1us, must be at least 1ms"},
      {"jitter", {.max_age_jitter = 1.5}, false, "pool.max_age_jitter is 1.5, must be in [0, 1]"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = CheckPoolOptions(c.options, c.of_service);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(PoolOptionsTest, OneConnectionByDefaultNeedsNoPool) {
  for (const bool of_service : {false, true}) {
    EXPECT_EQ(CheckPoolOptions({}, of_service), absl::OkStatus());
    EXPECT_FALSE(WantsPool({}, of_service));
    EXPECT_FALSE(WantsPool({.min_connections = of_service ? 1 : 0}, of_service));
    EXPECT_TRUE(WantsPool({.max_connections = 2}, of_service));
    EXPECT_TRUE(WantsPool({.exclusive = true}, of_service));
    EXPECT_TRUE(WantsPool({.max_age = absl::Hours(1)}, of_service));
    EXPECT_TRUE(WantsPool({.when_full = PoolOptions::WhenFull::kFail}, of_service));
  }
  EXPECT_TRUE(WantsPool({.min_connections = 1}, false));
}

}  // namespace
}  // namespace ferry
