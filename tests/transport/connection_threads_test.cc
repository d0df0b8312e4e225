// Connections that threads send on.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/little_endian.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using testing::StartsWith;

// A Receiver counts the frames of each sender, each of which begins with its sender and number, and tells
// when `expected` have come.
class Receiver final : public Connection::Handler {
 public:
  Receiver(size_t senders, uint32_t expected) : next_(senders), expected_(expected) {}

  void OnFrame(const Frame& frame) override {
    const size_t sender = LoadLittleEndian<uint32_t>(frame.body.data());
    const uint32_t number = LoadLittleEndian<uint32_t>(frame.body.data() + 4);
    ASSERT_LT(sender, next_.size());
    EXPECT_EQ(next_[sender]++, number);
    const std::string filling(frame.body.substr(8));
    EXPECT_EQ(filling, std::string(filling.size(), static_cast<char>(number)));
    if (++received_ == expected_) all_received.Notify();
  }
  void OnEndOfInput() override {}
  void OnMalformedInput(const absl::Status& why, bool) override {
    // A peer that is closed may leave the beginning of a frame.
    EXPECT_THAT(std::string(why.message()), StartsWith("connection ended inside a frame"));
  }
  void OnClosed(const absl::Status&) override { closed.Notify(); }

  absl::Notification all_received;
  absl::Notification closed;

 private:
  std::vector<uint32_t> next_;
  uint32_t received_ = 0;
  const uint32_t expected_;
};

bool SendNumbered(Connection& connection, uint32_t sender, uint32_t number, size_t filling) {
  return connection.Send([&](Connection::Output& output) {
    const size_t size = 8 + filling;
    char* out = output.Append(kFrameHeaderSize + size);
    EncodeFrameHeader({.length = static_cast<uint32_t>(size), .type = FrameType::kMessage}, out);
    StoreLittleEndian<uint32_t>(sender, out + kFrameHeaderSize);
    StoreLittleEndian<uint32_t>(number, out + kFrameHeaderSize + 4);
    std::fill_n(out + kFrameHeaderSize + 8, filling, static_cast<char>(number));
  });
}

// Two connections joined by memory, each on a loop of its own.
class ConnectionThreadsTest : public testing::Test {
 protected:
  static constexpr uint32_t kSenders = 4;
  static constexpr uint32_t kFrames = 500;

  void SetUp() override {
    absl::StatusOr<std::unique_ptr<LoopGroup>> loops = LoopGroup::Create({.threads = 2});
    ASSERT_TRUE(loops.ok()) << loops.status();
    loops_ = *std::move(loops);
    // Small, so that writes are short and wait.
    MemoryStreamPair pair = MemoryStreamPair::Create(1000);
    left_ = Connection::Create({}, loops_->loop(0), left_handler_, std::move(pair.first));
    right_ = Connection::Create({}, loops_->loop(1), right_handler_, std::move(pair.second));
    for (Connection* connection : {left_.get(), right_.get()}) {
      absl::Notification started;
      connection->loop().Post([&] {
        connection->Start();
        started.Notify();
      });
      started.WaitForNotification();
    }
  }

  void Close(Connection& connection) {
    connection.loop().Post([&connection] { connection.Close(absl::OkStatus()); });
  }

  // Runs `send` on a thread for each sender.
  void RunSenders(const std::function<void(uint32_t sender)>& send) {
    std::vector<std::thread> threads;
    for (uint32_t sender = 0; sender < kSenders; ++sender) threads.emplace_back(send, sender);
    for (std::thread& thread : threads) thread.join();
  }

  Receiver left_handler_{kSenders, kSenders* kFrames};
  Receiver right_handler_{kSenders, kSenders* kFrames};
  std::unique_ptr<LoopGroup> loops_;
  std::shared_ptr<Connection> left_;
  std::shared_ptr<Connection> right_;
};

TEST_F(ConnectionThreadsTest, FramesOfManyThreadsArriveWholeAndInTheirThreadsOrder) {
  test::Random random;
  const uint32_t seed = static_cast<uint32_t>(random.Number(0, 0xffffffff));
  RunSenders([&](uint32_t sender) {
    std::mt19937 sizes(seed + sender);
    for (uint32_t i = 0; i < kFrames; ++i) {
      EXPECT_TRUE(SendNumbered(*left_, sender, i, sizes() % 300));
      EXPECT_TRUE(SendNumbered(*right_, sender, i, sizes() % 300));
    }
  });
  left_handler_.all_received.WaitForNotification();
  right_handler_.all_received.WaitForNotification();
  Close(*left_);
  Close(*right_);
  left_handler_.closed.WaitForNotification();
  right_handler_.closed.WaitForNotification();
}

TEST_F(ConnectionThreadsTest, IsClosedUnderThreadsThatSend) {
  std::atomic<uint32_t> sent{0};
  RunSenders([&](uint32_t sender) {
    for (uint32_t i = 0; SendNumbered(*left_, sender, i, i % 300); ++i) {
      if (sent.fetch_add(1) == 200) Close(*left_);
    }
  });
  left_handler_.closed.WaitForNotification();
  EXPECT_FALSE(SendNumbered(*left_, 0, 0, 0));
  Close(*right_);
  right_handler_.closed.WaitForNotification();
}

}  // namespace
}  // namespace ferry::transport
