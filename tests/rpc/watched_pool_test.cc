// What a pool of connections tells and gives back to who has other servers.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/server_target.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/connection_pool_fixture.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;

// A Log is what a watcher was told.
struct Log final : ServerTarget::Watcher {
  void OnStateChange(ServerTarget& server) override { states.push_back(server.ready()); }
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    returned += calls.size();
    for (ClientCall* call : calls)
      call->End(absl::AbortedError(absl::StrCat("returned: ", std::string(why.message()))));
  }

  std::vector<bool> states;
  size_t returned = 0;
};

class WatchedPoolTest : public ConnectionPoolTest {
 protected:
  void CreateWatched(const PoolOptions& options) {
    Endpoint::Options endpoint;
    endpoint.watcher = log_;
    Create(options, endpoint);
  }
  const std::shared_ptr<Log> log_ = std::make_shared<Log>();
};

TEST_F(WatchedPoolTest, IsReadyWhileOneConnectionIs) {
  CreateWatched({.min_connections = 2, .max_connections = 2});
  EXPECT_FALSE(pool_->ready());
  GreetAll();
  EXPECT_THAT(log_->states, ElementsAre(true));
  Lose(0);
  EXPECT_TRUE(pool_->ready());
  EXPECT_FALSE(pool_->failing());
  EXPECT_THAT(log_->states, ElementsAre(true));
  script_.failures = 100;
  Lose(1);
  EXPECT_FALSE(pool_->ready());
  EXPECT_TRUE(pool_->failing());
  EXPECT_FALSE(log_->states.back());
}

TEST_F(WatchedPoolTest, TellsOfEachFailureWhileItIsNotReady) {
  script_.failures = 3;
  CreateWatched({.min_connections = 1, .max_connections = 2});
  for (int i = 0; i < 60 && made() == 0; ++i) Advance(absl::Seconds(1));
  EXPECT_THAT(log_->states, ElementsAre(false, false, false));
  GreetAll();
  EXPECT_THAT(log_->states, ElementsAre(false, false, false, true));
  EXPECT_EQ(pool_->last_error(), absl::UnavailableError("nobody listens there"));
}

TEST_F(WatchedPoolTest, GivesCallsBackOnlyWhenNoConnectionIsReady) {
  CreateWatched({.min_connections = 2, .max_connections = 2});
  TestCall& early = Start();
  EXPECT_THAT(early.status.message(), HasSubstr("returned: no connection is ready yet"));
  GreetAll();
  StartMany(4);
  EXPECT_EQ(log_->returned, 1u);
  script_.hang = true;
  Drain(0, 0);
  EXPECT_EQ(log_->returned, 1u);
  EXPECT_EQ(CallsOn(1), 4u);
  Drain(1, 1);
  EXPECT_EQ(log_->returned, 4u);
  Answer(1);
  EXPECT_EQ(pool_->has_calls(), false);
}

TEST_F(WatchedPoolTest, GivesBackWhatWaitsForAConnectionInUse) {
  CreateWatched({.min_connections = 1, .exclusive = true});
  GreetAll();
  StartMany(3);
  EXPECT_EQ(log_->returned, 0u);
  script_.hang = true;
  Lose(0);
  EXPECT_EQ(log_->returned, 2u);
  EXPECT_EQ(calls_[0].execution, Execution::kMaybeExecuted);
  EXPECT_FALSE(pool_->has_calls());
}

TEST_F(WatchedPoolTest, GivesCallsBackRatherThanFailThemForBeingFull) {
  script_.hang = true;
  CreateWatched({.min_connections = 1, .exclusive = true, .when_full = PoolOptions::WhenFull::kFail});
  for (int i = 0; i < 2; ++i) {
    TestCall& call = NewCall();
    pool_->Start(call, call.request, call.request.ByteSizeLong());
  }
  loop_->RunUntilIdle();
  EXPECT_EQ(log_->returned, 2u);
}

TEST_F(WatchedPoolTest, GivesBackCallsThatAreStartedOnceItIsClosed) {
  CreateWatched({.min_connections = 1, .max_connections = 2});
  GreetAll();
  Close(absl::UnavailableError("gone from the list"));
  EXPECT_THAT(Start().status.message(), HasSubstr("returned: gone from the list"));
}

}  // namespace
}  // namespace ferry
