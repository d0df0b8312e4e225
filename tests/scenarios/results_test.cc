#include "tests/scenarios/results.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_failure.h"

namespace ferry::scenarios {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);

// Server "a", which clients know as "to a", is lost from 10 s on, for 10 s.
Loss LossOfA() {
  return {.server = "a", .address = "to a", .from = 10 * kSecond, .to = 20 * kSecond, .notice = 2 * kSecond};
}

Result Answered(double at, std::string server, int attempt = 1) {
  return {.due = absl::Seconds(at),
          .sent = absl::Seconds(at),
          .took = absl::Milliseconds(1),
          .server = std::move(server),
          .attempt = attempt};
}

struct Failing {
  double at = 11;
  double took = 1;
  std::string peer = "to a";
  CallFailure::Execution execution = CallFailure::MAYBE_EXECUTED;
  std::vector<std::string> attempts = {};
};

Result Failed(const Failing& failing) {
  CallFailure failure;
  failure.set_peer(failing.peer);
  failure.set_execution(failing.execution);
  for (const std::string& peer : failing.attempts) failure.add_attempts()->set_peer(peer);
  Result result = {.due = absl::Seconds(failing.at),
                   .sent = absl::Seconds(failing.at),
                   .took = absl::Seconds(failing.took),
                   .server = "",
                   .status = absl::UnavailableError("lost")};
  SetFailure(failure, result.status);
  return result;
}

TEST(SentToLostTest, IsNothingWhenCallsAreAnsweredElsewhereAtOnce) {
  const Astray astray = SentToLost({Answered(9, "a"), Answered(11, "b"), Answered(15, "c")}, LossOfA());
  EXPECT_EQ(astray.calls, 0U);
  EXPECT_EQ(astray.last, absl::ZeroDuration());
}

TEST(SentToLostTest, SeesACallThatWasAnsweredAtASecondAttempt) {
  const Astray astray =
      SentToLost({Answered(11, "b", 2), Answered(13, "b", 2), Answered(14, "b")}, LossOfA());
  EXPECT_EQ(astray.calls, 2U);
  EXPECT_EQ(astray.last, 3 * kSecond);
}

TEST(SentToLostTest, SeesACallThatTheLostServerAnswersWhenItIsBack) {
  EXPECT_EQ(SentToLost({Answered(14, "a"), Answered(15, "b")}, LossOfA()).last, 4 * kSecond);
}

TEST(SentToLostTest, SeesACallThatFailedThereOrTriedToGoThere) {
  EXPECT_EQ(SentToLost({Failed({.at = 12})}, LossOfA()).last, 2 * kSecond);
  EXPECT_EQ(SentToLost({Failed({.at = 12, .peer = "to b"})}, LossOfA()).calls, 0U);
  EXPECT_EQ(SentToLost({Failed({.at = 12, .peer = "to b", .attempts = {"to a", "to b"}})}, LossOfA()).last,
            2 * kSecond);
}

TEST(SentToLostTest, SeesACallThatTheServerTookWithIt) {
  Result sent_again = Answered(9.99, "b", 2);
  sent_again.took = absl::Milliseconds(20);
  Result answered_in_time = Answered(9.99, "a");
  answered_in_time.took = absl::Milliseconds(11);
  const Astray astray = SentToLost({sent_again, answered_in_time}, LossOfA());
  EXPECT_EQ(astray.calls, 1U);
  EXPECT_EQ(astray.last, absl::ZeroDuration());
}

TEST(SentToLostTest, LeavesOutWhatEndedBeforeTheLossOrWasMadeAfterIt) {
  EXPECT_EQ(SentToLost({Answered(9.9, "b", 2), Answered(20, "a"), Answered(21, "b", 2)}, LossOfA()).calls,
            0U);
}

TEST(SentToLostTest, IsForeverIfCallsGoThereToTheEnd) {
  EXPECT_EQ(SentToLost({Answered(11, "b", 2), Answered(19.9, "b", 2)}, LossOfA()).last,
            absl::InfiniteDuration());
}

TEST(UnexcusedFailuresTest, ExcusesACallThatWasInFlightOnTheLostServer) {
  EXPECT_EQ(UnexcusedFailures({Failed({.at = 9.9}), Failed({.at = 12}), Answered(15, "b")}, {LossOfA()}), 0U);
}

TEST(UnexcusedFailuresTest, DoesNotExcuseOthers) {
  const struct {
    const char* name;
    Failing failing;
  } kCases[] = {
      {"made after the loss must have been noticed", {.at = 12.1}},
      {"ended before the loss", {.at = 8, .took = 1}},
      {"on another server", {.peer = "to b"}},
      {"surely not executed", {.execution = CallFailure::NOT_SENT}},
      {"said to be executed", {.execution = CallFailure::EXECUTED}},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(UnexcusedFailures({Failed(c.failing)}, {LossOfA()}), 1U);
  }
}

TEST(UnexcusedFailuresTest, DoesNotExcuseAStatusThatSaysNothing) {
  Result result = Failed({});
  result.status = absl::UnavailableError("lost");
  EXPECT_EQ(UnexcusedFailures({result}, {LossOfA()}), 1U);
}

TEST(UnexcusedFailuresTest, TakesAnyOfTheLossesForAnExcuse) {
  Loss other = LossOfA();
  other.address = "to b";
  other.from = 30 * kSecond;
  const Result during_the_other = Failed({.at = 31, .peer = "to b"});
  EXPECT_EQ(UnexcusedFailures({during_the_other}, {LossOfA(), other}), 0U);
  EXPECT_EQ(UnexcusedFailures({during_the_other}, {LossOfA()}), 1U);
  EXPECT_EQ(UnexcusedFailures({during_the_other}, {}), 1U);
}

TEST(ShareOfTest, CountsTheCallsMadeInTheTime) {
  const std::vector<Result> results = {Answered(1, "a"), Answered(2, "a"), Answered(3, "b"),
                                       Failed({.at = 4}), Answered(5, "a")};
  EXPECT_DOUBLE_EQ(ShareOf(results, "a", 2 * kSecond, 5 * kSecond), 1.0 / 3);
  EXPECT_DOUBLE_EQ(ShareOf(results, "a", 6 * kSecond, 7 * kSecond), 0);
}

TEST(FairShareTest, IsFourFifthsOfAnEqualPart) {
  EXPECT_TRUE(IsFairShare(0.27, 3));
  EXPECT_FALSE(IsFairShare(0.26, 3));
  EXPECT_FALSE(IsFairShare(1.0 / 6, 3));
  EXPECT_FALSE(IsFairShare(0, 3));
}

TEST(P99Test, IsWhatOneOfAHundredExceeds) {
  std::vector<Result> results;
  results.reserve(200);
  for (int i = 0; i < 200; ++i) {
    results.push_back(Answered(i, "a"));
    results.back().took = absl::Milliseconds(i < 198 ? 1 : 50);
  }
  EXPECT_EQ(P99(results, absl::ZeroDuration(), 199 * kSecond), absl::Milliseconds(1));
  EXPECT_EQ(P99(results, absl::ZeroDuration(), 200 * kSecond), absl::Milliseconds(50));
}

TEST(P99Test, IsNoGoodNewsIfThereWereNoCalls) {
  EXPECT_EQ(P99({}, absl::ZeroDuration(), kSecond), absl::InfiniteDuration());
}

TEST(P99Test, OfTheMedianSecondLeavesOutAMomentButNotMore) {
  // 100 calls in each of 5 seconds, of which two in each of some are slow.
  const auto slow_in = [](int seconds) {
    std::vector<Result> results;
    results.reserve(500);
    for (int i = 0; i < 500; ++i) {
      results.push_back(Answered(i * 0.01, "a"));
      const bool slow = i / 100 < seconds && i % 100 < 2;
      results.back().took = absl::Milliseconds(slow ? 50 : 1);
    }
    return results;
  };
  EXPECT_EQ(MedianP99(slow_in(2), absl::ZeroDuration(), 5 * kSecond), absl::Milliseconds(1));
  EXPECT_EQ(MedianP99(slow_in(3), absl::ZeroDuration(), 5 * kSecond), absl::Milliseconds(50));
  EXPECT_EQ(MedianP99(slow_in(0), absl::ZeroDuration(), kSecond / 2), absl::InfiniteDuration());
}

TEST(P99Test, MayDouble) {
  EXPECT_TRUE(IsWithinTwice(absl::Milliseconds(4), absl::Milliseconds(2)));
  EXPECT_FALSE(IsWithinTwice(absl::Milliseconds(5), absl::Milliseconds(2)));
  EXPECT_FALSE(IsWithinTwice(absl::InfiniteDuration(), absl::Milliseconds(2)));
  EXPECT_FALSE(IsWithinTwice(absl::Milliseconds(5), absl::InfiniteDuration()));
}

TEST(MostWithinTest, FindsTheBurst) {
  const auto at = [](int ms) { return absl::Milliseconds(ms); };
  EXPECT_EQ(MostWithin({at(0), at(500), at(510), at(520), at(900)}, at(100)), 3U);
  EXPECT_EQ(MostWithin({at(900), at(0), at(300), at(600)}, at(100)), 1U);
  EXPECT_EQ(MostWithin({at(0), at(100), at(201)}, at(100)), 2U);
  EXPECT_EQ(MostWithin({}, at(100)), 0U);
}

TEST(SteadyNumberTest, IsSteadyWhileItDoesNotChange) {
  SteadyNumber number;
  number.Add(7);
  number.Add(7);
  EXPECT_TRUE(number.steady());
  EXPECT_EQ(number.seen(), "7");
}

TEST(SteadyNumberTest, RemembersAChangeThatIsOver) {
  SteadyNumber number;
  for (const int seen : {7, 9, 7}) number.Add(seen);
  EXPECT_FALSE(number.steady());
  EXPECT_EQ(number.seen(), "7 to 9");
}

TEST(SteadyNumberTest, IsNotSteadyIfNobodyHasLooked) {
  EXPECT_FALSE(SteadyNumber().steady());
  EXPECT_EQ(SteadyNumber().seen(), "nobody has looked");
}

}  // namespace
}  // namespace ferry::scenarios
