#include "ferry/rpc/message_sender.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"

namespace ferry {
namespace {

using test::NewLoop;
using test::RawPeer;
using test::ReceivedFrame;
using testing::ElementsAre;
using transport::Connection;
using transport::FrameType;
using transport::StreamId;
using Added = MessageSender::Added;

StreamId Slot(uint32_t slot) { return StreamId::Make(slot, 0); }

// A sender on a connection whose far end is the test's.
class MessageSenderTest : public testing::Test, private Connection::Handler {
 protected:
  MessageSenderTest() {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    connection_ = Connection::Create({}, *loop_, *this, std::move(pair.first));
    sender_ = std::make_unique<MessageSender>(*connection_, kFlowControlFeature);
    peer_ = std::make_unique<RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    InLoop([this] { connection_->Start(); });
    peer_->Send(test::Preface());
    EXPECT_TRUE(peer_->TakePreface());
  }
  ~MessageSenderTest() override {
    InLoop([this] { connection_->Close(absl::OkStatus()); });
  }

  void InLoop(const std::function<void()>& task) {
    loop_->Post([this, &task] {
      task();
      AfterUse();
    });
    loop_->RunUntilIdle();
  }

  // Adds a message of `size` bytes; its on_sent is logged as "sent SLOT".
  Added Add(uint32_t slot, size_t size, uint8_t priority = 0, bool end = false,
            FrameType type = FrameType::kMessage) {
    Added added{};
    InLoop([&] {
      std::string head;
      if (type != FrameType::kMessage) {
        wire::RequestHead length;
        length.set_message_length(size);
        head = length.SerializeAsString();
      }
      added =
          sender_->Add({.frames = {.type = type, .stream = Slot(slot), .priority = priority, .head = head},
                        .encoded = EncodedCopy(std::string(size, 'x'), *connection_),
                        .end_stream = end,
                        .on_sent = [this, slot] { log_.push_back(absl::StrCat("sent ", slot)); },
                        .ordinal = type == FrameType::kRequest ? &ordinal_ : nullptr});
    });
    return added;
  }

  void Enlarge(uint32_t slot, uint32_t increment) {
    InLoop([&] { EXPECT_TRUE(sender_->Enlarge(Slot(slot), increment).ok()); });
  }

  // The frames that have come, as "SLOT:bytes" with "+" for MORE and "." for END_STREAM.
  std::vector<std::string> Frames() {
    std::vector<std::string> frames;
    for (const ReceivedFrame& frame : peer_->TakeFrames()) {
      frames.push_back(absl::StrCat(frame.header.stream.slot(), ":", frame.message().size(),
                                    frame.header.has(transport::kMore) ? "+" : "",
                                    frame.header.has(transport::kEndStream) ? "." : ""));
    }
    return frames;
  }

  transport::ManualClock clock_;
  std::unique_ptr<transport::EventLoop> loop_ = NewLoop({.clock = &clock_});
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<MessageSender> sender_;
  std::unique_ptr<RawPeer> peer_;
  std::vector<std::string> log_;
  uint64_t ordinal_ = 0;

 private:
  void AfterUse() {
    if (sender_->TakeFlush()) connection_->FlushAppended();
    for (MessageSender::OnSent& on_sent : sender_->TakeSent()) on_sent();
  }
  void OnFrame(const transport::Frame&) override {}
  void OnEndOfInput() override {}
  void OnMalformedInput(const absl::Status&, bool) override {}
  void OnClosed(const absl::Status&) override {}
  void OnRoom() override {
    sender_->Pump();
    AfterUse();
  }
};

TEST_F(MessageSenderTest, SendsWhatFitsAtOnce) {
  EXPECT_EQ(Add(1, 100), Added::kSent);
  EXPECT_EQ(Add(1, 0), Added::kSent);
  EXPECT_EQ(Add(2, 65'536), Added::kSent);
  EXPECT_THAT(Frames(), ElementsAre("1:100", "1:0", "2:65536"));
  EXPECT_THAT(log_, ElementsAre());
  EXPECT_TRUE(sender_->idle());
}

TEST_F(MessageSenderTest, SendsSmallMessagesUnencoded) {
  wire::WindowHead message;
  message.set_increment(7);
  InLoop([&] {
    const MessageFrames frames{.type = FrameType::kMessage, .stream = Slot(1)};
    EXPECT_EQ(sender_->AddSmall(frames, message, message.ByteSizeLong()), Added::kSent);
  });
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].message(), message.SerializeAsString());
}

TEST_F(MessageSenderTest, CutsALargeMessageAndSaysItsLength) {
  Add(1, 150'000);
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_EQ(frames.size(), 3u);
  wire::MessageHead head;
  ASSERT_TRUE(head.ParseFromString(frames[0].head()));
  EXPECT_EQ(head.message_length(), 150'000u);
  EXPECT_EQ(frames[1].header.head, 0);
  EXPECT_EQ(frames[2].message().size(), 150'000u - 2 * 65'536u);
  EXPECT_FALSE(frames[2].header.has(transport::kMore));
}

TEST_F(MessageSenderTest, FewestBytesLeftComeFirst) {
  EXPECT_EQ(Add(1, 500'000), Added::kWaiting);
  EXPECT_EQ(Add(2, 100'000), Added::kWaiting);
  const std::vector<std::string> frames = Frames();
  // What was on its way before the second came, then all of that, then the rest.
  EXPECT_THAT(frames, ElementsAre("1:65536+", "1:65536+", "2:65536+", "2:34464", "1:65536+", "1:65536+",
                                  "1:65536+", "1:65536+", "1:65536+", "1:41248"));
  EXPECT_THAT(log_, ElementsAre("sent 2", "sent 1"));
}

TEST_F(MessageSenderTest, PrioritiesComeBeforeThat) {
  Add(1, 500'000);
  Add(2, 70'000, /*low*/ 2);
  Add(3, 400'000);
  Add(4, 400'000, /*high*/ 1);
  Frames();
  EXPECT_THAT(log_, ElementsAre("sent 4", "sent 1", "sent 3", "sent 2"));
}

TEST_F(MessageSenderTest, WaitsForTheStreamsWindow) {
  InLoop([&] { sender_->SetPeer({.initial_stream_window = 100'000, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(1, 150'000), Added::kWaiting);
  EXPECT_THAT(Frames(), ElementsAre("1:65536+", "1:34440+"));
  EXPECT_EQ(Add(2, 10'000), Added::kSent);
  Enlarge(1, 30'000);
  EXPECT_THAT(Frames(), ElementsAre("2:10000", "1:29988+"));
  Enlarge(1, 30'000);
  EXPECT_THAT(Frames(), ElementsAre("1:20036"));
  EXPECT_THAT(log_, ElementsAre("sent 1"));
}

TEST_F(MessageSenderTest, WaitsForTheConnectionsWindow) {
  InLoop([&] { sender_->SetPeer({.initial_connection_window = 70'000, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(1, 60'000), Added::kSent);
  EXPECT_EQ(Add(2, 10'000), Added::kWaiting);
  EXPECT_THAT(Frames(), ElementsAre("1:60000"));
  Enlarge(0, 100'000);
  EXPECT_THAT(Frames(), ElementsAre("2:10000"));
  EXPECT_THAT(log_, ElementsAre("sent 2"));
}

TEST_F(MessageSenderTest, ASmallMessageIsNotCut) {
  InLoop([&] { sender_->SetPeer({.initial_stream_window = 65'536, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(1, 60'000), Added::kSent);
  EXPECT_EQ(Add(1, 10'000), Added::kWaiting);
  EXPECT_THAT(Frames(), ElementsAre("1:60000"));
  Enlarge(1, 10'000);
  EXPECT_THAT(Frames(), ElementsAre("1:10000"));
}

TEST_F(MessageSenderTest, ASmallerWindowThanTheDefaultMayMakeItNegative) {
  EXPECT_EQ(Add(1, 500'000), Added::kWaiting);
  Frames();
  InLoop([&] { sender_->SetPeer({.initial_stream_window = 100'000, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(1, 10), Added::kWaiting);
  Enlarge(1, 400'000);
  EXPECT_THAT(Frames(), ElementsAre());
  Enlarge(1, 200);
  EXPECT_THAT(Frames(), ElementsAre("1:10"));
}

TEST_F(MessageSenderTest, AStreamWhoseWindowHasShrunkHoldsUpNoOther) {
  // More than the connection takes at once, so that it waits for room and not for a window.
  EXPECT_EQ(Add(1, 900'000), Added::kWaiting);
  InLoop([&] { sender_->SetPeer({.initial_stream_window = 65'536, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(2, 10'000), Added::kWaiting);
  Frames();
  EXPECT_THAT(log_, ElementsAre("sent 2"));
}

TEST_F(MessageSenderTest, DoesNotCountForAPeerThatDoesNot) {
  EXPECT_EQ(Add(1, 1'100'000), Added::kWaiting);
  Frames();
  EXPECT_EQ(log_.size(), 0u);
  InLoop([&] { sender_->SetPeer({.initial_stream_window = 65'536}); });
  Frames();
  EXPECT_THAT(log_, ElementsAre("sent 1"));
  Add(2, 20'000'000);
  Frames();
  EXPECT_THAT(log_, ElementsAre("sent 1", "sent 2"));
}

TEST_F(MessageSenderTest, StopsCountingWhenTold) {
  EXPECT_EQ(Add(1, 3'000'000), Added::kWaiting);
  Frames();
  EXPECT_EQ(log_.size(), 0u);
  InLoop([&] { sender_->StopCounting(); });
  Frames();
  EXPECT_THAT(log_, ElementsAre("sent 1"));
}

TEST_F(MessageSenderTest, TheEndComesBehindWhatWaits) {
  EXPECT_EQ(Add(1, 300'000), Added::kWaiting);
  InLoop([&] { EXPECT_EQ(sender_->AddEnd(FrameType::kResponse, Slot(1), 0, "head"), Added::kWaiting); });
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_EQ(frames.size(), 6u);
  EXPECT_EQ(frames.back().header.type, FrameType::kResponse);
  EXPECT_TRUE(frames.back().header.has(transport::kEndStream));
  EXPECT_EQ(frames.back().head(), "head");
  EXPECT_TRUE(sender_->empty());
}

TEST_F(MessageSenderTest, NothingMoreIsSentOfWhatIsDropped) {
  EXPECT_EQ(Add(1, 1'000'000), Added::kWaiting);
  bool unsent = true;
  InLoop([&] { unsent = sender_->Drop(Slot(1)); });
  EXPECT_FALSE(unsent);
  EXPECT_LT(Frames().size(), 5u);
  EXPECT_THAT(log_, ElementsAre("sent 1"));
  EXPECT_EQ(sender_->waiting_bytes(), 0u);
  EXPECT_TRUE(sender_->empty());
}

TEST_F(MessageSenderTest, KnowsARequestOfWhichNothingWasSent) {
  InLoop([&] { sender_->SetPeer({.initial_connection_window = 65'536, .features = kFlowControlFeature}); });
  EXPECT_EQ(Add(1, 65'000), Added::kSent);
  EXPECT_EQ(Add(2, 100'000, 0, true, FrameType::kRequest), Added::kWaiting);
  EXPECT_EQ(ordinal_, 0u);
  bool unsent = false;
  InLoop([&] { unsent = sender_->Drop(Slot(2)); });
  EXPECT_TRUE(unsent);
  EXPECT_EQ(Add(3, 100'000, 0, true, FrameType::kRequest), Added::kWaiting);
  Enlarge(0, 1'000'000);
  EXPECT_EQ(ordinal_, 1u);
  EXPECT_THAT(Frames(), ElementsAre("1:65000", "3:65536+", "3:34464."));
}

TEST_F(MessageSenderTest, RefusesAWindowThatIsTooLarge) {
  Add(1, 10);
  InLoop([&] {
    EXPECT_EQ(
        sender_->Enlarge(Slot(1), 2'147'483'647),
        absl::InternalError("WINDOW frame enlarges the window of slot 1 to 2148532201, limit is 2147483647"));
    EXPECT_FALSE(sender_->Enlarge(Slot(0), 2'147'483'647).ok());
    // Of a stream that has ended, or not begun to send.
    EXPECT_TRUE(sender_->Enlarge(Slot(7), 2'147'483'647).ok());
  });
}

TEST_F(MessageSenderTest, AClosedConnectionEndsAllThatWaits) {
  EXPECT_EQ(Add(1, 2'000'000), Added::kWaiting);
  InLoop([&] { connection_->Close(absl::OkStatus()); });
  EXPECT_EQ(Add(2, 10), Added::kClosed);
  EXPECT_THAT(log_, ElementsAre("sent 1"));
  EXPECT_TRUE(sender_->idle());
}

}  // namespace
}  // namespace ferry
