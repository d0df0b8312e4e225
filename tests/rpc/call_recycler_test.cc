#include "ferry/rpc/call_recycler.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ferry/rpc/server_call.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"

namespace ferry {
namespace {

using Call = TypedServerCall<test::Text, test::Text>;

std::unique_ptr<ServerCall> NewCall() { return std::make_unique<Call>(); }

TEST(CallRecyclerTest, MakesCallsThatKnowTheirRecycler) {
  CallRecycler recycler(&NewCall);
  ServerCall& call = recycler.Take();
  EXPECT_EQ(call.recycler, &recycler);
  recycler.Return(call, 0, /*in_loop=*/true);
}

TEST(CallRecyclerTest, HandsOutReturnedCallsCleared) {
  CallRecycler recycler(&NewCall);
  Call& call = static_cast<Call&>(recycler.Take());
  call.reply().set_text("something");
  call.not_executed = true;
  recycler.Return(call, 100, /*in_loop=*/true);
  EXPECT_EQ(&recycler.Take(), &call);
  EXPECT_EQ(call.reply().text(), "");
  EXPECT_FALSE(call.not_executed);
  recycler.Return(call, 0, /*in_loop=*/true);
}

TEST(CallRecyclerTest, DropsTheMemoryOfLargeMessages) {
  CallRecycler recycler(&NewCall);
  Call& call = static_cast<Call&>(recycler.Take());
  call.reply().set_text(std::string(100'000, 'x'));
  recycler.Return(call, 32 * 1024, /*in_loop=*/true);
  EXPECT_GE(static_cast<Call&>(recycler.Take()).reply().text().capacity(), 100'000u);
  recycler.Return(call, 32 * 1024 + 1, /*in_loop=*/true);
  EXPECT_LT(static_cast<Call&>(recycler.Take()).reply().text().capacity(), 1000u);
  recycler.Return(call, 0, /*in_loop=*/true);
}

TEST(CallRecyclerTest, TakesCallsBackFromAnyThread) {
  CallRecycler recycler(&NewCall);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    std::vector<ServerCall*> calls;
    calls.reserve(1000);
    for (int j = 0; j < 1000; ++j) calls.push_back(&recycler.Take());
    threads.emplace_back([&recycler, calls] {
      for (ServerCall* call : calls) recycler.Return(*call, 0, /*in_loop=*/false);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace ferry
