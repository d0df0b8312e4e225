#include "ferry/rpc/call_table.h"

#include <vector>

#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using test::TestCall;
using testing::ElementsAre;
using transport::kConnectionStream;
using transport::StreamId;

TEST(CallTableTest, GivesEachSlotItsFirstGeneration) {
  CallTable table;
  TestCall calls[2];
  EXPECT_EQ(table.Open(calls[0], 10), StreamId::Make(1, 0));
  EXPECT_EQ(table.Open(calls[1], 10), StreamId::Make(2, 0));
  EXPECT_EQ(table.Find(StreamId::Make(2, 0)), &calls[1]);
  EXPECT_EQ(table.in_use(), 2u);
}

TEST(CallTableTest, IsFullAtItsLimit) {
  CallTable table;
  TestCall calls[3];
  ASSERT_NE(table.Open(calls[0], 2), kConnectionStream);
  ASSERT_NE(table.Open(calls[1], 2), kConnectionStream);
  EXPECT_EQ(table.Open(calls[2], 2), kConnectionStream);
  table.Take(StreamId::Make(1, 0));
  EXPECT_EQ(table.Open(calls[2], 2), StreamId::Make(1, 1));
}

TEST(CallTableTest, BeginsGenerationsAnewAfterTheLast) {
  CallTable table;
  TestCall call;
  for (uint32_t use = 0; use <= StreamId::kGenerations; ++use) {
    const StreamId stream = table.Open(call, 1);
    ASSERT_EQ(stream, StreamId::Make(1, use % StreamId::kGenerations));
    ASSERT_EQ(table.Take(stream), &call);
  }
}

TEST(CallTableTest, KeepsTheSlotOfAnAbandonedCallUntilTheServerHasEndedIt) {
  CallTable table;
  TestCall calls[2];
  const StreamId stream = table.Open(calls[0], 1);
  EXPECT_EQ(table.Abandon(stream), &calls[0]);
  EXPECT_EQ(table.Abandon(stream), nullptr);
  EXPECT_EQ(table.in_use(), 1u);
  EXPECT_EQ(table.calls(), 0u);
  EXPECT_EQ(table.Find(stream), nullptr);
  EXPECT_EQ(table.Open(calls[1], 1), kConnectionStream);
  EXPECT_EQ(table.Take(stream), nullptr);
  EXPECT_EQ(table.Open(calls[1], 1), StreamId::Make(1, 1));
  EXPECT_EQ(table.calls(), 1u);
}

TEST(CallTableTest, IgnoresOtherGenerationsAndUnknownSlots) {
  CallTable table;
  TestCall call;
  const StreamId stream = table.Open(call, 1);
  EXPECT_EQ(table.Take(stream.Next()), nullptr);
  EXPECT_EQ(table.Take(StreamId::Make(2, 0)), nullptr);
  EXPECT_EQ(table.Take(StreamId()), nullptr);
  EXPECT_FALSE(table.Knows(StreamId::Make(2, 0)));
  EXPECT_FALSE(table.Knows(StreamId()));
  EXPECT_EQ(table.Take(stream), &call);
  EXPECT_EQ(table.Take(stream), nullptr);
  EXPECT_TRUE(table.Knows(stream));
}

TEST(CallTableTest, TakesOutEveryCallInTheOrderOfTheSlots) {
  CallTable table;
  TestCall calls[4];
  for (TestCall& call : calls) ASSERT_NE(table.Open(call, 10), kConnectionStream);
  table.Take(StreamId::Make(2, 0));
  table.Abandon(StreamId::Make(3, 0));
  EXPECT_THAT(table.TakeAll(), ElementsAre(&calls[0], &calls[3]));
  EXPECT_THAT(table.TakeAll(), ElementsAre());
}

}  // namespace
}  // namespace ferry
