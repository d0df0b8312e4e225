// What a connection makes of its input.
#include "ferry/transport/connection.h"

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/preface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/transport/connection_fixture.h"

namespace ferry::transport {
namespace {

using test::FaultyStream;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;
using testing::StartsWith;

INSTANTIATE_TEST_SUITE_P(, ConnectionTest, testing::ValuesIn(EveryCut()), NameOfCut);

// ---------------------------------------------------------------- The preface

TEST_P(ConnectionTest, AClientSendsItsPrefaceAtOnce) {  // [P2.2]
  Start({});
  EXPECT_EQ(PeerReads(), Preface());
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(Preface());
  EXPECT_THAT(events(), ElementsAre("preface"));
}

TEST_P(ConnectionTest, AServerSendsNothingBeforeThePeersPreface) {  // [P2.2]
  Start({.wait_for_preface = true});
  PeerWrites(Preface().substr(0, kPrefaceSize - 1));
  EXPECT_EQ(PeerReads(), "");
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(Preface().substr(kPrefaceSize - 1));
  EXPECT_EQ(PeerReads(), Preface());
  EXPECT_THAT(events(), ElementsAre("preface"));
}

TEST_P(ConnectionTest, TakesFramesBehindThePrefaceInTheSameRead) {
  Start({.wait_for_preface = true});
  PeerWrites(Preface() + MessageFrame("one") + MessageFrame("two"));
  EXPECT_THAT(events(), ElementsAre("preface", "frame one", "frame two"));
}

TEST_P(ConnectionTest, EndsAPeerOfAnotherKind) {  // [P2.3] [P2.4]
  struct Case {
    const char* name;
    std::string bytes;
    const char* error;
    std::string server_answers;
  };
  const Case kCases[] = {
      {"HTTP", "GET / HTTP/1.1\r\n\r\n", "INTERNAL: peer speaks HTTP, not Ferry", ""},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
       "INTERNAL: peer speaks TLS", ""},
      {"something else", "SSH-2.0-OpenSSH_9.2\r\n", "INTERNAL: peer does not speak Ferry", ""},
      {"a wrong last byte", Preface().substr(0, 7) + "\r", "INTERNAL: peer does not speak Ferry", ""},
      {"another version",
       std::string("\xf5"
                   "FRY\x02\x00\x00\n",
                   8),
       "UNIMPLEMENTED: peer speaks major version 2", Preface()},
  };
  for (const bool server : {true, false}) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(absl::StrCat(server ? "server, " : "client, ", c.name));
      recorder_.events.clear();
      Start({.wait_for_preface = server});
      PeerWrites(c.bytes);
      EXPECT_THAT(events(), ElementsAre(AllOf(StartsWith(absl::StrCat("malformed ", c.error)),
                                              testing::Not(EndsWith("to be told")))));
      EXPECT_EQ(PeerReads(), server ? c.server_answers : Preface());
      EXPECT_TRUE(PeerSeesEnd());
      PeerCloses();
      EXPECT_THAT(events().back(), StartsWith(absl::StrCat("closed ", c.error)));
    }
  }
}

TEST_P(ConnectionTest, NoticesAWrongPrefaceAtItsFirstWrongByte) {  // [P2.3]
  Start({.wait_for_preface = true});
  PeerWrites(
      "\xf5"
      "FX");
  EXPECT_THAT(events(), ElementsAre(StartsWith("malformed INTERNAL: peer does not speak Ferry")));
}

TEST_P(ConnectionTest, EndsWhenTheInputEndsInsideThePreface) {  // [P13.1]
  Start({.wait_for_preface = true});
  PeerWrites(Preface().substr(0, 3));
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("malformed INTERNAL: connection ended after 3 of the preface's 8 bytes",
                                    "closed INTERNAL: connection ended after 3 of the preface's 8 bytes"));
  EXPECT_EQ(PeerReads(), "");
}

TEST_P(ConnectionTest, EndsAPeerThatDoesNotSendItsPreface) {  // appendix A
  Start({.wait_for_preface = true, .preface_timeout = absl::Seconds(10)});
  PeerWrites(Preface().substr(0, 3));
  Advance(absl::Seconds(9));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Seconds(1));
  EXPECT_THAT(
      events(),
      ElementsAre("malformed DEADLINE_EXCEEDED: preface is not whole after 10s, 3 of 8 bytes are there"));
  EXPECT_EQ(PeerReads(), "");
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceThatHasSentItsPreface) {
  StartTalking({.preface_timeout = absl::Seconds(10)});
  Advance(absl::Hours(24));
  EXPECT_THAT(events(), IsEmpty());
}

// ---------------------------------------------------------------- Input

TEST_P(ConnectionTest, ShowsEveryFrameOnceAndInOrder) {
  StartTalking();
  std::string bytes;
  std::vector<std::string> expected;
  for (int i = 0; i < 200; ++i) {
    const std::string body = absl::StrCat(i, std::string(static_cast<size_t>(i), '.'));
    bytes += MessageFrame(body);
    expected.push_back("frame " + body);
  }
  PeerWrites(bytes);
  EXPECT_EQ(events(), expected);
  EXPECT_EQ(connection_->counters().bytes_read.load(), kPrefaceSize + bytes.size());
}

TEST_P(ConnectionTest, ShowsAFrameThatCameInTwoPieces) {
  StartTalking();
  const std::string bytes = MessageFrame("in two pieces") + MessageFrame("next");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    recorder_.events.clear();
    PeerWrites(bytes.substr(0, cut));
    PeerWrites(bytes.substr(cut));
    EXPECT_THAT(events(), ElementsAre("frame in two pieces", "frame next"));
  }
}

TEST_P(ConnectionTest, DoesNotShowIgnorableFrames) {  // [P3.5]
  StartTalking();
  PeerWrites(MessageFrame("a") + MessageFrame("from the future", FrameType{0x80}) + MessageFrame("b") +
             MessageFrame("", FrameType{0xff}));
  EXPECT_THAT(events(), ElementsAre("frame a", "frame b"));
}

TEST_P(ConnectionTest, HandlesNothingAfterAMalformedFrame) {  // [P14.1]
  StartTalking();
  PeerWrites(MessageFrame("good") + MessageFrame("bad", FrameType{77}) + MessageFrame("late"));
  PeerWrites(MessageFrame("later"));
  EXPECT_THAT(events(), ElementsAre("frame good", AllOf(StartsWith("malformed INTERNAL: frame type is 77"),
                                                        EndsWith("to be told"))));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, TellsOfTheEndOfInputAtAFramesBoundary) {  // [P13.1]
  StartTalking();
  PeerWrites(MessageFrame("last"));
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("frame last", "end of input"));
  EXPECT_TRUE(SendMessage(*connection_, "answer"));
  EXPECT_EQ(PeerReads(), MessageFrame("answer"));
}

TEST_P(ConnectionTest, EndsWhenTheInputEndsInsideAFrame) {  // [P13.1]
  const std::string frame = MessageFrame("0123456789ab");
  for (const size_t cut : {1, 11, 12, 23}) {
    SCOPED_TRACE(cut);
    recorder_.events.clear();
    StartTalking();
    PeerWrites(frame.substr(0, cut));
    PeerFinishesWriting();
    const std::string why = absl::StrCat("INTERNAL: connection ended inside a frame, after ", cut, " of ",
                                         cut < 12 ? "12 bytes of its header" : "24 bytes");
    EXPECT_THAT(events(), ElementsAre(absl::StrCat("malformed ", why, ", to be told"), "closed " + why));
    EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  }
}

TEST_P(ConnectionTest, EndsAPeerThatSendsAFrameTooSlowly) {  // appendix A
  StartTalking({.frame_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame(std::string(100, 'x'));
  for (size_t i = 0; i < 30; ++i) {
    PeerWrites(frame.substr(i, 1));
    EXPECT_THAT(events(), IsEmpty());
    Advance(absl::Seconds(1));
  }
  EXPECT_THAT(events(), ElementsAre("malformed DEADLINE_EXCEEDED: frame is not whole after 30s, 30 of 112 "
                                    "bytes are there, to be told"));
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceWhoseFramesCompleteInTime) {
  StartTalking({.frame_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame("slow");
  for (int i = 0; i < 5; ++i) {
    PeerWrites(frame.substr(0, 1));
    Advance(absl::Seconds(29));
    // The end of one frame and the beginning of another, whose time begins now.
    PeerWrites(frame.substr(1) + frame.substr(0, 1));
    Advance(absl::Seconds(29));
    PeerWrites(frame.substr(1));
    Advance(absl::Hours(1));
  }
  EXPECT_EQ(events().size(), 10u);
  EXPECT_THAT(events(), testing::Each(std::string("frame slow")));
}

TEST_P(ConnectionTest, AReadErrorClosesIt) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_reads_after = kPrefaceSize + 20;
  SetFaults(faults);
  PeerWrites(MessageFrame("whole") + MessageFrame("broken"));
  EXPECT_THAT(events(), ElementsAre("frame whole", "closed UNAVAILABLE: a fault after 28 bytes read"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
}

}  // namespace
}  // namespace ferry::transport
