#include "ferry/rpc/keepalive.h"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"

namespace ferry {
namespace {

using test::RawPeer;
using test::ReceivedFrame;
using transport::Connection;
using transport::EventLoop;
using transport::FrameType;

class KeepaliveTest : public testing::Test, protected Connection::Handler {
 protected:
  KeepaliveTest() {
    absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    connection_ = Connection::Create({}, *loop_, *this, std::move(pair.first));
    peer_ = std::make_unique<RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    loop_->Post([this] { connection_->Start(); });
    peer_->Send(test::Preface());
    EXPECT_TRUE(peer_->TakePreface());
  }
  ~KeepaliveTest() override {
    loop_->Post([this] {
      keepalive_->End();
      connection_->Close(absl::CancelledError("the test ends"));
    });
    loop_->RunUntilIdle();
  }

  void Begin(const Keepalive::Options& options) {
    loop_->Post([this, options] {
      keepalive_ = std::make_unique<Keepalive>(
          options, *loop_, *connection_, [this] { return has_calls_; }, [this] { ++gone_; });
      keepalive_->Begin();
    });
    loop_->RunUntilIdle();
    peer_->TakeFrames();
  }
  void Advance(absl::Duration time) {
    // As finely as the looks.
    for (absl::Duration passed; passed < time; passed += absl::Milliseconds(500)) {
      clock_.Advance(absl::Milliseconds(500));
      loop_->RunUntilIdle();
    }
  }
  size_t Pings() {
    size_t pings = 0;
    for (const ReceivedFrame& frame : peer_->TakeFrames()) pings += frame.header.type == FrameType::kPing;
    return pings;
  }
  void Say() { peer_->Send(test::EncodeFrame({.length = 8, .type = FrameType::kPing}, std::string(8, 'x'))); }

  void OnFrame(const transport::Frame&) override {}
  void OnEndOfInput() override {}
  void OnMalformedInput(const absl::Status& why, bool) override { ADD_FAILURE() << why; }
  void OnClosed(const absl::Status&) override {}

  transport::ManualClock clock_;
  std::unique_ptr<EventLoop> loop_;
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<RawPeer> peer_;
  std::unique_ptr<Keepalive> keepalive_;
  bool has_calls_ = true;
  int gone_ = 0;
};

TEST_F(KeepaliveTest, APeerThatIsGoneIsNoticedWithinTwiceTheTime) {
  Begin({.time = absl::Seconds(10)});
  // The last byte comes at the worst time: just after a look.
  Advance(absl::Milliseconds(5500));
  EXPECT_EQ(Pings(), 1u);
  Say();
  Advance(absl::Milliseconds(19'000));
  EXPECT_EQ(gone_, 0);
  EXPECT_EQ(Pings(), 1u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(gone_, 1);
}

TEST_F(KeepaliveTest, APeerThatAnswersLives) {
  Begin({.time = absl::Seconds(10)});
  for (int i = 0; i < 20; ++i) {
    Advance(absl::Seconds(9));
    if (Pings() > 0) Say();
  }
  EXPECT_EQ(gone_, 0);
}

TEST_F(KeepaliveTest, APeerThatTalksIsNotAsked) {
  Begin({.time = absl::Seconds(10)});
  for (int i = 0; i < 20; ++i) {
    Advance(absl::Seconds(4));
    Say();
  }
  EXPECT_EQ(Pings(), 0u);
  EXPECT_EQ(gone_, 0);
}

TEST_F(KeepaliveTest, AnIdleConnectionIsAskedOnlyIfThatIsWanted) {
  has_calls_ = false;
  Begin({.time = absl::Seconds(10)});
  Advance(absl::Minutes(5));
  EXPECT_EQ(Pings(), 0u);
  EXPECT_EQ(gone_, 0);
  keepalive_->End();
  Begin({.time = absl::Seconds(10), .when_idle = true});
  Advance(absl::Seconds(15));
  EXPECT_EQ(gone_, 1);
}

TEST_F(KeepaliveTest, InfiniteTurnsItOff) {
  Begin({.time = absl::InfiniteDuration(), .when_idle = true});
  Advance(absl::Minutes(5));
  EXPECT_EQ(Pings(), 0u);
  EXPECT_EQ(gone_, 0);
}

}  // namespace
}  // namespace ferry
