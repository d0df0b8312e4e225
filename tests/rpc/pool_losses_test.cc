// What becomes of a pool's calls when connections are lost, and what a pool tells of itself.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/connection_pool_fixture.h"
#include "tests/testing/random.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using transport::Instant;

using State = ConnectionStats::State;

// ---------------------------------------------------------------- Loss

TEST_F(ConnectionPoolTest, CallsThatAConnectionGivesBackGoToAnother) {
  Create({.min_connections = 2, .max_connections = 2});
  GreetAll();
  StartMany(6);
  ASSERT_EQ(CallsOn(0), 3u);
  Drain(0, 1);
  EXPECT_EQ(CallsOn(1), 5u);
  Answer(0);
  AnswerAll(1);
  for (const TestCall& call : calls_) EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

TEST_F(ConnectionPoolTest, CallsThatAreSentAgainSayWhichAttemptTheyAre) {
  Create({.min_connections = 2, .max_connections = 2});
  GreetAll();
  TestCall& call = Start();
  EXPECT_THAT(Look(0).attempts, ElementsAre(1));
  Drain(0, 0);
  EXPECT_THAT(Look(1).attempts, ElementsAre(2));
  script_.hang = true;
  Drain(1, 0);
  InLoop([&] { pool_->CancelCall(call, absl::CancelledError("while waiting")); });
  ASSERT_TRUE(call.failure.has_value());
  EXPECT_EQ(call.failure->attempt_count(), 2);
}

TEST_F(ConnectionPoolTest, CallsThatAreSentAgainComeBeforeThoseThatWait) {
  Create({.max_connections = 2, .exclusive = true});
  Start();
  GreetAll();
  StartMany(1);
  GreetAll();
  StartMany(1);
  Drain(0, 0);
  Answer(1);
  Answer(1);
  EXPECT_TRUE(calls_[0].ended);
  EXPECT_FALSE(calls_[2].ended);
}

TEST_F(ConnectionPoolTest, ALostConnectionThatIsNotNeededIsNotMadeAgain) {
  Create({.max_connections = 2, .calls_per_connection = 1});
  Start();
  GreetAll();
  StartMany(1);
  GreetAll();
  ASSERT_EQ(made(), 2u);
  AnswerAll(0);
  AnswerAll(1);
  Lose(1);
  Lose(0);
  Advance(absl::Minutes(4));
  EXPECT_EQ(script_.attempts.size(), 2u);
  TestCall& call = Start();
  Greet(2);
  Answer(2);
  EXPECT_TRUE(call.ended && call.status.ok()) << call.status;
}

TEST_F(ConnectionPoolTest, CallsFailWhileNoConnectionCanBeMadeUnlessTheyWaitForReady) {
  Create({.max_connections = 2}, {.seed = 3});
  script_.failures = 1;
  TestCall& patient = NewCall();
  patient.wait_for_ready = true;
  Start(patient);
  TestCall& hasty = Start();
  EXPECT_EQ(hasty.status, absl::UnavailableError("nobody listens there"));
  EXPECT_TRUE(pool_->failing());
  EXPECT_FALSE(patient.ended);
  Advance(absl::Seconds(1));
  Greet(0);
  Answer(0);
  EXPECT_TRUE(patient.ended && patient.status.ok()) << patient.status;
  EXPECT_FALSE(pool_->failing());
}

TEST_F(ConnectionPoolTest, AServerThatIsDownIsTriedByOneConnection) {
  Create({.min_connections = 5, .max_connections = 5});
  GreetAll();
  ASSERT_EQ(made(), 5u);
  script_.hang = true;
  for (size_t i = 0; i < 5; ++i) Lose(i);
  EXPECT_THAT(Stats(), SizeIs(1));
  for (int i = 0; i < 60; ++i) Advance(absl::Seconds(1));
  EXPECT_THAT(Stats(), SizeIs(1));
}

TEST_F(ConnectionPoolTest, CallsAreTurnedAwayOnlySoOften) {
  Create({.max_connections = 2});
  TestCall& call = Start();
  for (size_t i = 0; i < Endpoint::kMaxTurnedAway; ++i) {
    EXPECT_FALSE(call.ended) << i << call.status;
    Lose(i);
    Advance(absl::Seconds(1));
  }
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("connection ended after 0"));
}

TEST_F(ConnectionPoolTest, ACallWhoseRequestWasWrittenEndsWithItsConnection) {
  Create({.min_connections = 2, .max_connections = 2});
  GreetAll();
  TestCall& call = Start();
  ASSERT_EQ(CallsOn(0), 1u);
  Lose(0);
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(call.execution, Execution::kMaybeExecuted);
}

// A connection that was replaced for its age still has a call, and the server is gone for new ones.
TEST_F(ConnectionPoolTest, CallsFailAlthoughAnOldConnectionEndsItsOwn) {
  Create({.max_age = absl::Minutes(1), .max_age_jitter = 0});
  TestCall& old = Start();
  Greet(0);
  ASSERT_EQ(CallsOn(0), 1u);
  Advance(absl::Minutes(1));
  Greet(1);
  script_.failures = 1000;
  Lose(1);
  EXPECT_EQ(Start().status.code(), StatusCode::kUnavailable);
  EXPECT_TRUE(pool_->failing());
  Answer(0);
  EXPECT_EQ(old.status, absl::OkStatus());
}

// ---------------------------------------------------------------- Ends

TEST_F(ConnectionPoolTest, CallsAreCancelledWhereverTheyAre) {
  Create({.exclusive = true});
  TestCall& before = Start();
  InLoop([&] { pool_->CancelCall(before, absl::CancelledError("while connecting")); });
  EXPECT_EQ(before.status, absl::CancelledError("while connecting"));
  TestCall& sent = Start();
  Greet(0);
  TestCall& waiting = Start();
  InLoop([&] { pool_->CancelCall(waiting, absl::CancelledError("while waiting")); });
  EXPECT_EQ(waiting.status, absl::CancelledError("while waiting"));
  InLoop([&] { pool_->CancelCall(sent, absl::CancelledError("in flight")); });
  EXPECT_EQ(sent.status, absl::CancelledError("in flight"));
  EXPECT_FALSE(pool_->has_calls());
}

TEST_F(ConnectionPoolTest, ACallIsCancelledOnItsWayToTheLoop) {
  Create({.max_connections = 2});
  TestCall& call = NewCall();
  loop_->Post([&] { pool_->CancelCall(call, absl::CancelledError("too early")); });
  pool_->Start(call, call.request, call.request.ByteSizeLong());
  loop_->RunUntilIdle();
  EXPECT_EQ(call.status, absl::CancelledError("too early"));
  EXPECT_FALSE(pool_->has_calls());
}

TEST_F(ConnectionPoolTest, DeadlinesEndCallsThatWait) {
  Create({.exclusive = true});
  TestCall& early = Start(NewCall(clock_.Now() + absl::Seconds(1)));
  Advance(absl::Seconds(1));
  EXPECT_EQ(early.status.code(), StatusCode::kDeadlineExceeded);
  Start();
  Greet(0);
  TestCall& late = Start(NewCall(clock_.Now() + absl::Seconds(1)));
  Advance(absl::Seconds(1));
  EXPECT_EQ(late.status, absl::DeadlineExceededError("the deadline of ferry.test.Echo/Echo passed before it "
                                                     "could be sent: every connection is in use"));
}

TEST_F(ConnectionPoolTest, CloseEndsEveryCall) {
  Create({.max_connections = 2, .exclusive = true});
  Start();
  GreetAll();
  StartMany(3);
  Close(absl::CancelledError("that was it"));
  for (const TestCall& call : calls_) EXPECT_EQ(call.status, absl::CancelledError("that was it"));
  EXPECT_EQ(Start().status, absl::CancelledError("that was it"));
  EXPECT_FALSE(pool_->has_calls());
}

TEST_F(ConnectionPoolTest, MayBeClosedAndDestroyedByACallThatEnds) {
  for (const bool waits : {false, true}) {
    SCOPED_TRACE(waits);
    Create({.max_connections = 2, .exclusive = true});
    const size_t first = made();
    TestCall& call = Start(NewCall(waits ? clock_.Now() + absl::Seconds(1) : Instant::Infinite()));
    call.on_end = [this] {
      pool_->Close(absl::CancelledError("inside"));
      pool_ = nullptr;
    };
    TestCall& other = Start();
    if (waits) {
      Advance(absl::Seconds(1));
    } else {
      Greet(first);
      Answer(first);
    }
    EXPECT_TRUE(call.ended);
    EXPECT_TRUE(other.ended);
    EXPECT_EQ(pool_, nullptr);
  }
}

// ---------------------------------------------------------------- Statistics

TEST_F(ConnectionPoolTest, TellsOfEachConnection) {
  Create({.max_connections = 2,
          .calls_per_connection = 2,
          .idle_timeout = absl::InfiniteDuration(),
          .max_age = absl::Hours(1),
          .max_age_jitter = 0});
  Start();
  Greet(0);
  Answer(0);
  Advance(absl::Seconds(10));
  StartMany(3);
  Advance(absl::Seconds(1));
  std::vector<ConnectionStats> stats = Stats();
  ASSERT_THAT(stats, SizeIs(2));
  EXPECT_EQ(stats[0].server, "the server");
  EXPECT_EQ(stats[0].state, State::kReady);
  EXPECT_EQ(stats[0].age, absl::Seconds(11));
  EXPECT_EQ(stats[0].calls_started, 4u);
  EXPECT_EQ(stats[0].calls_in_flight, 3u);
  EXPECT_EQ(stats[0].streams, 0u);
  EXPECT_GT(stats[0].bytes_written, stats[0].calls_started * transport::kFrameHeaderSize);
  EXPECT_GT(stats[0].bytes_read, transport::kFrameHeaderSize);
  EXPECT_EQ(stats[1].state, State::kConnecting);
  EXPECT_EQ(stats[1].calls_started, 0u);
  Greet(1);
  Advance(absl::Hours(1) - absl::Seconds(11));
  Greet(2);
  stats = Stats();
  ASSERT_THAT(stats, SizeIs(3));
  EXPECT_EQ(stats[0].state, State::kDraining);
  EXPECT_EQ(stats[1].state, State::kReady);
  EXPECT_EQ(stats[2].state, State::kReady);
}

TEST_F(ConnectionPoolTest, TellsWhyThereIsNoConnection) {
  script_.failures = 1;
  Create({.min_connections = 1, .max_connections = 2});
  const std::vector<ConnectionStats> stats = Stats();
  ASSERT_THAT(stats, SizeIs(1));
  EXPECT_EQ(stats[0].state, State::kWaiting);
  EXPECT_EQ(stats[0].last_error, absl::UnavailableError("nobody listens there"));
}

// ---------------------------------------------------------------- All of it

// Servers drain and answer as they like, connections grow old and idle: every call ends well, and once.
TEST_F(ConnectionPoolTest, NoCallFailsWhateverComesAndGoes) {
  test::Random random;
  for (const bool exclusive : {false, true}) {
    SCOPED_TRACE(exclusive);
    const size_t begin = made();
    Create({.min_connections = random.Number(0, 2),
            .max_connections = 4,
            .calls_per_connection = 3,
            .exclusive = exclusive,
            .idle_timeout = absl::Seconds(5),
            .max_age = absl::Seconds(30),
            .max_age_jitter = 0.5});
    for (int step = 0; step < 3000; ++step) {
      const uint64_t what = random.Number(0, 99);
      for (size_t i = begin; i < made(); ++i) {
        if (random.Number(0, 3) == 0) Greet(i);
      }
      if (what < 45) {
        NewCall().wait_for_ready = true;
        Start(calls_.back());
      } else if (what < 60) {
        Advance(absl::Milliseconds(random.Number(0, 3000)));
      } else if (made() > begin) {
        const size_t i = random.Number(begin, made() - 1);
        if (!At(i).greeted) continue;
        Look(i);
        if (what < 63 && !At(i).drained) {
          Drain(i, At(i).calls - random.Number(0, At(i).open.size()));
        } else {
          AnswerAll(i);
        }
      }
      if (exclusive) {
        for (size_t i = begin; i < made(); ++i) ASSERT_TRUE(!At(i).greeted || CallsOn(i) <= 1);
      }
    }
    for (int i = 0; i < 1000 && pool_->has_calls(); ++i) {
      GreetAll();
      for (size_t j = begin; j < made(); ++j) AnswerAll(j);
      Advance(absl::Seconds(1));
    }
    for (const TestCall& call : calls_) ASSERT_TRUE(call.ended && call.status.ok()) << call.status;
    EXPECT_GT(made() - begin, 20u);
    calls_.clear();
    Close(absl::CancelledError("next"));
  }
}

// The same with servers that go away, deadlines, and callers that cancel: every call ends, and ends once.
TEST_F(ConnectionPoolTest, EveryCallEndsWhateverIsLost) {
  test::Random random;
  for (const bool exclusive : {false, true}) {
    SCOPED_TRACE(exclusive);
    const size_t begin = made();
    Create({.min_connections = random.Number(0, 2),
            .max_connections = 3,
            .calls_per_connection = 2,
            .exclusive = exclusive,
            .idle_timeout = absl::Seconds(5),
            .max_age = absl::Seconds(30)});
    for (int step = 0; step < 3000; ++step) {
      const uint64_t what = random.Number(0, 99);
      if (what < 40) {
        NewCall(random.Coin() ? Instant::Infinite()
                              : clock_.Now() + absl::Milliseconds(random.Number(1, 5000)));
        calls_.back().wait_for_ready = random.Coin();
        Start(calls_.back());
      } else if (what < 50) {
        Advance(absl::Milliseconds(random.Number(0, 2000)));
      } else if (what < 53) {
        script_.failures = static_cast<int>(random.Number(0, 2));
      } else if (what < 58 && !calls_.empty()) {
        TestCall& call = calls_[random.Number(0, calls_.size() - 1)];
        InLoop([&] {
          if (!call.ended) pool_->CancelCall(call, absl::CancelledError("the caller"));
        });
      } else if (made() > begin) {
        const size_t i = random.Number(begin, made() - 1);
        if (what < 63) {
          Lose(i);
        } else if (At(i).greeted) {
          AnswerAll(i);
        } else {
          Greet(i);
        }
      }
    }
    script_.failures = 0;
    for (int i = 0; i < 1000 && pool_->has_calls(); ++i) {
      GreetAll();
      for (size_t j = begin; j < made(); ++j) AnswerAll(j);
      Advance(absl::Seconds(1));
    }
    size_t well = 0;
    for (const TestCall& call : calls_) {
      ASSERT_TRUE(call.ended);
      well += call.status.ok() ? 1 : 0;
    }
    EXPECT_GT(well, calls_.size() / 4);
    calls_.clear();
    Close(absl::CancelledError("next"));
  }
}

}  // namespace
}  // namespace ferry
