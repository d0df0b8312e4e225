#include "ferry/rpc/server_output.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/message_sender.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/run_loop.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::RawPeer;
using test::ReceivedFrame;
using test::Text;
using testing::IsEmpty;
using testing::SizeIs;
using transport::Connection;
using transport::StreamId;
using Added = MessageSender::Added;

const StreamId kStream = StreamId::Make(1, 0);

// The output of a connection whose far end is the test's, and a call with a stream of replies.
class ServerOutputTest : public testing::Test, private Connection::Handler {
 protected:
  ServerOutputTest() {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    connection_ = Connection::Create({}, *loop_, *this, std::move(pair.first));
    output_ = std::make_unique<ServerOutput>(*connection_, kFlowControlFeature | kStreamingFeature);
    peer_ = std::make_unique<RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    InLoop([this] { connection_->Start(); });
    peer_->Send(test::Preface());
    EXPECT_TRUE(peer_->TakePreface());
    InLoop([this] {
      output_->SetPeer(
          {.initial_stream_window = 65'536, .features = kFlowControlFeature | kStreamingFeature});
    });
    call_.context().Begin(place_);
    call_.stream = kStream;
  }
  ~ServerOutputTest() override {
    InLoop([this] { connection_->Close(absl::OkStatus()); });
  }

  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }

  Added Send(size_t size) {
    Added added{};
    Text message;
    message.set_text(std::string(size, 'x'));
    InLoop([&] {
      const MessageFrames frames{.type = transport::FrameType::kMessage, .stream = kStream};
      added = output_->SendStreamed(frames, message, message.ByteSizeLong(), [this] { ++sent_; });
    });
    return added;
  }

  // The ends that the call has had.
  std::vector<ReceivedFrame> TakeEnds() {
    std::vector<ReceivedFrame> frames = peer_->TakeFrames();
    std::erase_if(frames,
                  [](const ReceivedFrame& frame) { return !frame.header.has(transport::kEndStream); });
    return frames;
  }

  std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop();
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<ServerOutput> output_;
  std::unique_ptr<RawPeer> peer_;
  const std::string name_ = "peer";
  const ServerContext::Place place_{&name_, loop_.get(), nullptr, nullptr};
  TypedServerCall<Text, Text> call_{ServerCall::Kind{.server_streaming = true}};
  int sent_ = 0;

 private:
  void OnFrame(const transport::Frame&) override {}
  void OnEndOfInput() override {}
  void OnMalformedInput(const absl::Status&, bool) override {}
  void OnClosed(const absl::Status&) override {}
  void OnRoom() override { output_->Pump(); }
};

TEST_F(ServerOutputTest, ACancelAfterTheEndWasAddedEndsTheCallOnce) {
  ASSERT_EQ(Send(200'000), Added::kWaiting);
  InLoop([&] { output_->SendReply(call_); });
  EXPECT_THAT(TakeEnds(), IsEmpty());
  InLoop([&] { output_->CancelAnswer(kStream); });
  const std::vector<ReceivedFrame> ends = TakeEnds();
  ASSERT_THAT(ends, SizeIs(1));
  EXPECT_EQ(ends[0].status().status.code(), StatusCode::kCancelled);
  EXPECT_EQ(sent_, 1);
}

TEST_F(ServerOutputTest, ACancelJustBeforeTheEndIsAddedEndsTheCallOnce) {
  ASSERT_EQ(Send(200'000), Added::kWaiting);
  InLoop([&] { output_->CancelAnswer(kStream); });
  EXPECT_EQ(sent_, 1) << "nobody waits for a window any more";
  InLoop([&] { output_->SendReply(call_); });
  const std::vector<ReceivedFrame> ends = TakeEnds();
  ASSERT_THAT(ends, SizeIs(1));
  EXPECT_EQ(ends[0].status().status.code(), StatusCode::kCancelled) << "a message was dropped";
  EXPECT_TRUE(output_->idle());
}

TEST_F(ServerOutputTest, NothingIsSentBetweenACancelAndTheEnd) {
  ASSERT_EQ(Send(200'000), Added::kWaiting);
  InLoop([&] { output_->CancelAnswer(kStream); });
  peer_->TakeFrames();
  EXPECT_EQ(Send(10), Added::kClosed);
  EXPECT_EQ(Send(200'000), Added::kClosed);
  InLoop([&] { output_->SendStatus(call_, absl::AbortedError("no more")); });
  const std::vector<ReceivedFrame> frames = peer_->TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].status().status.code(), StatusCode::kAborted);
}

TEST_F(ServerOutputTest, ACancelAfterTheEndLeavesTheSlotsNextCallAlone) {
  ASSERT_EQ(Send(10), Added::kSent);
  InLoop([&] { output_->SendReply(call_); });
  EXPECT_THAT(TakeEnds(), SizeIs(1));
  InLoop([&] { output_->CancelAnswer(kStream); });
  EXPECT_EQ(Send(10), Added::kSent);
  InLoop([&] { output_->SendReply(call_); });
  const std::vector<ReceivedFrame> ends = TakeEnds();
  ASSERT_THAT(ends, SizeIs(1));
  EXPECT_EQ(ends[0].header.type, transport::FrameType::kResponse);
}

}  // namespace
}  // namespace ferry
