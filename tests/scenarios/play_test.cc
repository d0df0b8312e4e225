#include "tests/scenarios/play.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace ferry::scenarios {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

void PlayKept(Stage& stage) {
  stage.HoldThreads();
  stage.promises().Add("failed calls", "none", "0 of 10", true);
  stage.PromiseThreads();
}

void PlayBroken(Stage& stage) {
  PlayKept(stage);
  stage.promises().Add("connections", "500", "501", false);
}

void PlayLate(Stage& stage) {
  PlayKept(stage);
  stage.promises().AddTime("it is back after", absl::Seconds(5), absl::Seconds(6));
}

void PlayMoreThreads(Stage& stage) {
  stage.HoldThreads();
  absl::Notification enough;
  std::thread another([&] { enough.WaitForNotification(); });
  stage.Watch("another thread", {}, absl::Seconds(60), [] { return true; });
  enough.Notify();
  another.join();
  stage.PromiseThreads();
}

void PlayWithoutALookAtThreads(Stage& stage) {
  stage.promises().Add("failed calls", "none", "0 of 10", true);
}

class PlayTest : public ::testing::Test {
 protected:
  int Play(std::string_view name, bool brief = false) {
    const std::vector<Scenario> scenarios = {
        {"kept", "all is well", PlayKept},
        {"broken", "one promise is broken", PlayBroken},
        {"late", "something takes too long", PlayLate},
        {"threads", "there is another thread for a while", PlayMoreThreads},
        {"nobody", "nobody looks at threads", PlayWithoutALookAtThreads},
    };
    return PlayScenario(scenarios, name, {.brief = brief, .out = &out_, .look_every = absl::ZeroDuration()});
  }

  std::ostringstream out_;
};

TEST_F(PlayTest, IsZeroIfEveryPromiseIsKept) {
  EXPECT_EQ(Play("kept"), 0);
  EXPECT_THAT(out_.str(), HasSubstr("kept: all is well"));
  EXPECT_THAT(out_.str(), ContainsRegex("threads, all the time +([0-9]+) +([0-9]+) +kept\n"));
}

TEST_F(PlayTest, IsOneIfAPromiseIsBrokenAndNamesIt) {
  EXPECT_EQ(Play("broken"), 1);
  EXPECT_THAT(out_.str(), ContainsRegex("connections +500 +501 +BROKEN\n"));
}

TEST_F(PlayTest, IsOneIfSomethingTakesTooLongExceptInBrief) {
  EXPECT_EQ(Play("late"), 1);
  EXPECT_EQ(Play("late", /*brief=*/true), 0);
}

TEST_F(PlayTest, IsOneIfTheNumberOfThreadsWasAnotherForAWhile) {
  EXPECT_EQ(Play("threads"), 1);
  EXPECT_THAT(out_.str(), ContainsRegex("threads, all the time .* to .*BROKEN\n"));
}

TEST_F(PlayTest, IsOneIfNobodyHasLookedAtThreads) {
  EXPECT_EQ(Play("nobody"), 1);
  EXPECT_THAT(out_.str(), HasSubstr("nobody has looked"));
}

TEST_F(PlayTest, IsTwoForANameThatNoneHasAndListsThem) {
  EXPECT_EQ(Play("kil"), 2);
  EXPECT_THAT(out_.str(), HasSubstr("there is no scenario 'kil'"));
  EXPECT_THAT(out_.str(), HasSubstr("  broken      one promise is broken\n"));
}

}  // namespace
}  // namespace ferry::scenarios
