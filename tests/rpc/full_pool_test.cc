// Where calls go, or wait, when every connection has as many as it takes.
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/pool_options.h"
#include "gtest/gtest.h"
#include "tests/rpc/connection_pool_fixture.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::TestCall;

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

}  // namespace
}  // namespace ferry
