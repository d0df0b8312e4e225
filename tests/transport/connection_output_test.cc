// What a connection does with its output, and when it reads no further because of it.
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/time/time.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/preface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/transport/connection_fixture.h"

namespace ferry::transport {
namespace {

using test::FaultyStream;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

INSTANTIATE_TEST_SUITE_P(, ConnectionTest, testing::ValuesIn(EveryCut()), NameOfCut);

// ---------------------------------------------------------------- Output

TEST_P(ConnectionTest, SendsFramesAndReferredBytesInOrder) {
  StartTalking();
  const std::string large(10'000, 'x');
  OnLoop([&] {
    connection_->Send([&](Connection::Output& output) {
      const std::string header = MessageFrame(large).substr(0, kFrameHeaderSize);
      std::copy(header.begin(), header.end(), output.Append(kFrameHeaderSize));
    });
    const Block block = connection_->AllocateOutput(large.size());
    std::copy(large.begin(), large.end(), block.data());
    connection_->Send([&](Connection::Output& output) {
      output.Append(block, {block.data(), large.size()});
    });
    SendMessage(*connection_, "behind");
  });
  EXPECT_EQ(PeerReads(), MessageFrame(large) + MessageFrame("behind"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_P(ConnectionTest, AnotherThreadWritesWithoutTheLoop) {
  StartTalking();
  // This thread is the loop's only while it runs the loop.
  EXPECT_TRUE(SendMessage(*connection_, "at once"));
  const std::string expected = MessageFrame("at once");
  std::string bytes(expected.size(), '\0');
  const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
  EXPECT_EQ(peer_->Read({&part, 1}).bytes, expected.size());
  EXPECT_EQ(bytes, expected);
}

TEST_P(ConnectionTest, GoesOnWhereAShortWriteEnded) {
  capacity_ = 10;
  StartTalking();
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string body(static_cast<size_t>(i), static_cast<char>('a' + i % 26));
    SendMessage(*connection_, body);
    expected += MessageFrame(body);
  }
  EXPECT_GT(connection_->waiting_output(), 0u);
  EXPECT_EQ(PeerReads(), expected);
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_EQ(connection_->counters().bytes_written.load(), kPrefaceSize + expected.size());
}

TEST_P(ConnectionTest, EndsAPeerThatTakesNothing) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  SendMessage(*connection_, std::string(88, 'x'));
  loop_->RunUntilIdle();
  Advance(absl::Seconds(29));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Seconds(1));
  EXPECT_THAT(events(),
              ElementsAre("closed DEADLINE_EXCEEDED: the peer took none of 84 waiting bytes for 30s"));
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceThatTakesAByteNowAndThen) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame(std::string(50, 'x'));
  OnLoop([&] { SendBytes(*connection_, frame); });
  std::string received;
  while (connection_->waiting_output() > 0) {
    Advance(absl::Seconds(29));
    received += PeerReads(1);
    ASSERT_THAT(events(), IsEmpty());
  }
  Advance(absl::Hours(1));
  EXPECT_EQ(received + PeerReads(), frame);
  EXPECT_THAT(events(), IsEmpty());
}

TEST_P(ConnectionTest, AWriteErrorClosesIt) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_writes_after = kPrefaceSize + 5;
  SetFaults(faults);
  OnLoop([&] { SendMessage(*connection_, "broken"); });
  EXPECT_THAT(events(), ElementsAre("closed UNAVAILABLE: a fault after 13 bytes written"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_P(ConnectionTest, AWriteErrorOfAnotherThreadClosesItOnTheLoop) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_writes_after = kPrefaceSize + 5;
  SetFaults(faults);
  SendMessage(*connection_, "broken");
  EXPECT_THAT(events(), IsEmpty());
  loop_->RunUntilIdle();
  EXPECT_THAT(events(), ElementsAre("closed UNAVAILABLE: a fault after 13 bytes written"));
}

// ---------------------------------------------------------------- Reading waits for writing

TEST_P(ConnectionTest, StopsReadingWhileMuchOutputWaits) {
  capacity_ = 64;
  StartTalking({.max_waiting_output = 1000});
  SendMessage(*connection_, std::string(2000, 'x'));
  PeerWrites(MessageFrame("waits"));
  EXPECT_THAT(events(), IsEmpty());
  EXPECT_EQ(PeerReads(500).size(), 500u);
  EXPECT_THAT(events(), IsEmpty());
  EXPECT_EQ(PeerReads().size(), 1512u);
  EXPECT_THAT(events(), ElementsAre("frame waits"));
}

TEST_P(ConnectionTest, StopsReadingInTheMiddleOfWhatItAnswers) {
  capacity_ = 64;
  StartTalking({.max_waiting_output = 1000});
  recorder_.on_frame = [this](const Frame&) { SendMessage(*connection_, std::string(600, 'x')); };
  const std::string request = MessageFrame("1234");
  for (int i = 0; i < 4; ++i) {
    const iovec part = {.iov_base = const_cast<char*>(request.data()), .iov_len = request.size()};
    ASSERT_EQ(peer_->Write({&part, 1}).bytes, request.size());
  }
  loop_->RunUntilIdle();
  // What was read in one piece is answered, and at most that.
  if (faults_.max_read <= request.size()) {
    EXPECT_EQ(events().size(), 2u);
  }
  EXPECT_EQ(PeerReads().size(), 4 * 612u);
  EXPECT_EQ(events().size(), 4u);
}

TEST_P(ConnectionTest, DoesNotCountItsOwnPauseAgainstThePeersFrame) {
  capacity_ = 64;
  StartTalking(
      {.frame_timeout = absl::Seconds(30), .write_timeout = absl::Seconds(30), .max_waiting_output = 1000});
  PeerWrites(MessageFrame("whole").substr(0, 14));
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(MessageFrame("whole").substr(14));
  for (int i = 0; i < 10; ++i) {
    Advance(absl::Seconds(20));
    PeerReads(100);
    ASSERT_THAT(events(), IsEmpty());
  }
  PeerReads();
  EXPECT_THAT(events(), ElementsAre("frame whole"));
}

TEST_P(ConnectionTest, CountsThePeersTimeAgainAfterAPause) {
  capacity_ = 64;
  StartTalking({.frame_timeout = absl::Seconds(30), .max_waiting_output = 1000});
  PeerWrites(MessageFrame("never whole").substr(0, 14));
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(MessageFrame("never whole").substr(14, 2));
  PeerReads();
  Advance(absl::Seconds(30));
  EXPECT_THAT(events(),
              ElementsAre(StartsWith("malformed DEADLINE_EXCEEDED: frame is not whole after 30s, 16 of 23")));
}

TEST_P(ConnectionTest, TakesThePeersPrefaceHoweverMuchOutputWaits) {
  capacity_ = 64;
  Start({.preface_timeout = absl::Seconds(10), .max_waiting_output = 1000});
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(Preface());
  Advance(absl::Seconds(10));
  EXPECT_THAT(events(), ElementsAre("preface"));
}

}  // namespace
}  // namespace ferry::transport
