#include "ferry/rpc/message_queue.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/budget.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Taken = MessageQueue::Taken;

constexpr uint32_t kWindow = 1000;
constexpr size_t kFrame = 12;

class MessageQueueTest : public testing::Test {
 protected:
  // Appends a frame; returns what is to be granted.
  size_t Append(const std::string& bytes, bool more = false, uint64_t length = 0) {
    size_t credit = 0;
    const absl::Status status = TryAppend(bytes, more, length, &credit);
    EXPECT_TRUE(status.ok()) << status;
    return credit;
  }
  absl::Status TryAppend(const std::string& bytes, bool more, uint64_t length, size_t* credit) {
    return queue_.Append({.bytes = bytes, .message_length = length, .more = more}, bytes.size() + kFrame,
                         budget_, credit);
  }

  // Takes a message; "-" if there is none yet, "." at the end.
  std::string Take(size_t* credit = nullptr) {
    absl::string_view bytes;
    size_t granted = 0;
    const Taken taken = queue_.Take(&bytes, &granted);
    if (credit != nullptr) *credit = granted;
    if (taken == Taken::kMessage) return std::string(bytes);
    return taken == Taken::kEnd ? "." : "-";
  }

  const std::shared_ptr<Budget> budget_ = std::make_shared<Budget>(10'000);
  MessageQueue queue_{kWindow, 5'000};
};

TEST_F(MessageQueueTest, GivesMessagesInOrder) {
  EXPECT_EQ(Take(), "-");
  Append("one");
  Append("");
  EXPECT_EQ(Take(), "one");
  Append("three");
  EXPECT_EQ(Take(), "");
  EXPECT_EQ(Take(), "three");
  EXPECT_EQ(Take(), "-");
  queue_.End();
  EXPECT_EQ(Take(), ".");
}

TEST_F(MessageQueueTest, PutsFragmentsTogether) {
  Append("a");
  Append("he", true, 5);
  EXPECT_TRUE(queue_.in_message());
  EXPECT_EQ(Take(), "a");
  EXPECT_EQ(Take(), "-");
  Append("l", true);
  Append("lo");
  EXPECT_FALSE(queue_.in_message());
  EXPECT_EQ(Take(), "hello");
}

TEST_F(MessageQueueTest, TheEndComesBehindWholeMessagesOnly) {
  Append("whole");
  Append("pa", true, 4);
  queue_.End();
  EXPECT_EQ(Take(), "whole");
  EXPECT_EQ(Take(), ".");
  EXPECT_EQ(queue_.held(), 0u);
}

TEST_F(MessageQueueTest, RefusesFragmentsThatDoNotAddUp) {
  const struct {
    const char* name;
    std::vector<std::pair<std::string, bool>> frames;
    const char* text;
  } kCases[] = {
      {"longer", {{"abc", true}, {"def", true}}, "fragments have 6 bytes, message_length is 5"},
      {"shorter", {{"abc", true}, {"d", false}}, "fragments have 4 bytes, message_length is 5"},
      {"longer at once", {{"abcdef", true}}, "fragments have 6 bytes, message_length is 5"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    MessageQueue queue(kWindow, 5'000);
    absl::Status status;
    for (const auto& [bytes, more] : c.frames) {
      size_t credit;
      EXPECT_TRUE(status.ok());
      status = queue.Append({.bytes = bytes, .message_length = 5, .more = more}, 0, budget_, &credit);
    }
    EXPECT_EQ(status, absl::InternalError(c.text));
  }
  EXPECT_EQ(budget_->used(), 0u);
}

TEST_F(MessageQueueTest, RefusesWhatIsTooLong) {
  size_t credit;
  EXPECT_EQ(TryAppend("x", true, 5'001, &credit),
            absl::ResourceExhaustedError("message is 5001 bytes, limit is 5000"));
  ASSERT_TRUE(budget_->Take(9'000));
  EXPECT_THAT(std::string(TryAppend("x", true, 4'000, &credit).message()), HasSubstr("9000 of 10000 bytes"));
  budget_->GiveBack(9'000);
}

TEST_F(MessageQueueTest, GrantsWhatWasReadInHalfWindows) {
  const std::string message(288, 'x');
  EXPECT_EQ(Append(message), 0u);
  EXPECT_EQ(Append(message), 0u);
  EXPECT_EQ(Append(message), 0u);
  size_t credit;
  Take(&credit);
  EXPECT_EQ(credit, 0u);
  Take(&credit);
  EXPECT_EQ(credit, 600u);
}

// The sender may not know yet that we grant less than the default.
TEST_F(MessageQueueTest, KnowsASenderThatGoesBeyondItsWindowAndTheDefault) {
  const auto budget = std::make_shared<Budget>(10'000'000);
  MessageQueue queue(kWindow, 100'000);
  const std::string message(100'000, 'x');
  size_t credit;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(queue.Append({.bytes = message}, message.size() + kFrame, budget, &credit).ok());
    EXPECT_FALSE(queue.overflowed());
  }
  ASSERT_TRUE(queue.Append({.bytes = message}, message.size() + kFrame, budget, &credit).ok());
  EXPECT_TRUE(queue.overflowed());
}

TEST_F(MessageQueueTest, GrantsFragmentsAsTheyArriveWhileNothingWaitsToBeRead) {
  EXPECT_EQ(Append(std::string(400, 'x'), true, 3'000), 0u);
  EXPECT_EQ(Append(std::string(400, 'x'), true), 824u);
  // But not behind a message that nobody reads.
  Append(std::string(2'200, 'x'));
  EXPECT_EQ(Append(std::string(400, 'x'), true, 3'000), 0u);
  EXPECT_EQ(Append(std::string(400, 'x'), true), 0u);
  size_t credit;
  EXPECT_EQ(Take(&credit).size(), 3'000u);
  EXPECT_GT(credit, 824u);
}

TEST_F(MessageQueueTest, DiscardDropsWhatIsThereAndWhatComes) {
  Append(std::string(100, 'x'));
  Append(std::string(100, 'x'), true, 300);
  EXPECT_EQ(queue_.Discard(), 224u);
  EXPECT_EQ(budget_->used(), 0u);
  EXPECT_EQ(Append(std::string(200, 'x')), 0u);
  EXPECT_EQ(Append(std::string(300, 'x')), 524u);
  EXPECT_EQ(Take(), ".");
  EXPECT_EQ(budget_->used(), 0u);
}

TEST_F(MessageQueueTest, DiscardLeavesTheReaderWhatItIsAt) {
  Append("one");
  Append("two");
  absl::string_view bytes;
  size_t credit;
  ASSERT_EQ(queue_.Take(&bytes, &credit), Taken::kMessage);
  queue_.Discard();
  EXPECT_EQ(bytes, "one");
  EXPECT_EQ(Take(), ".");
}

TEST_F(MessageQueueTest, HoldsNothingOnceAllIsRead) {
  for (int i = 0; i < 3; ++i) {
    Append(std::string(1'000, 'x'));
    Append("", true, 10);
    Append("0123456789");
  }
  EXPECT_EQ(budget_->used(), queue_.held());
  EXPECT_EQ(queue_.held(), 3 * (1'000u + 10 + 2 * 4));
  for (int i = 0; i < 6; ++i) Take();
  EXPECT_EQ(queue_.held(), 0u);
  EXPECT_EQ(budget_->used(), 0u);
}

TEST_F(MessageQueueTest, RunsAWaiterOnce) {
  std::vector<std::string> log;
  MessageQueue::Waiter waiter = [&] { log.push_back("run"); };
  ASSERT_TRUE(queue_.Await(waiter));
  Append("a", true, 2);
  EXPECT_THAT(log, ElementsAre());
  Append("b");
  Append("c");
  EXPECT_THAT(log, ElementsAre("run"));
  waiter = [] {};
  EXPECT_FALSE(queue_.Await(waiter));
  Take();
  Take();
  waiter = [&] { log.push_back("end"); };
  ASSERT_TRUE(queue_.Await(waiter));
  queue_.End();
  EXPECT_THAT(log, ElementsAre("run", "end"));
}

}  // namespace
}  // namespace ferry
