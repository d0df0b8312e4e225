// How connections end.
#include <string>

#include "absl/status/status.h"
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
using testing::ElementsAre;
using testing::IsEmpty;

INSTANTIATE_TEST_SUITE_P(, ConnectionTest, testing::ValuesIn(EveryCut()), NameOfCut);

TEST_P(ConnectionTest, FinishesWritingBehindWaitingOutput) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, "0123456789");
  connection_->FinishWriting();
  loop_->RunUntilIdle();
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(PeerReads(), MessageFrame("0123456789"));
  EXPECT_TRUE(PeerSeesEnd());
  PeerWrites(MessageFrame("still read"));
  EXPECT_THAT(events(), ElementsAre("frame still read"));
}

TEST_P(ConnectionTest, FinishesWritingAtOnceWhenNothingWaits) {
  StartTalking();
  connection_->FinishWriting();
  connection_->FinishWriting();
  loop_->RunUntilIdle();
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, CloseDoesNotWaitForOutput) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, std::string(1000, 'x'));
  bool told = false;
  OnLoop([&] {
    connection_->Close(absl::CancelledError("enough"));
    told = !events().empty();
    connection_->Close(absl::CancelledError("once more"));
    connection_->CloseAfterFlush(absl::CancelledError("and again"));
  });
  EXPECT_TRUE(told);
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
  PeerReads();
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, MayBeClosedInsideOnFrame) {
  StartTalking();
  recorder_.on_frame = [this](const Frame&) { connection_->Close(absl::CancelledError("enough")); };
  PeerWrites(MessageFrame("one") + MessageFrame("two"));
  EXPECT_THAT(events(), ElementsAre("frame one", "closed CANCELLED: enough"));
  Advance(absl::Hours(1));
}

TEST_P(ConnectionTest, MayBeClosedInsideOnEndOfInput) {
  StartTalking();
  recorder_.on_end_of_input = [this] { connection_->Close(absl::OkStatus()); };
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("end of input", "closed OK"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsForThePeerToReadTheLastWords) {
  capacity_ = 16;
  StartTalking();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(MessageFrame("thrown away"));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_TRUE(PeerSeesEnd());
  EXPECT_THAT(events(), IsEmpty());
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsForOutputWhenThePeerHasFinishedFirst) {
  capacity_ = 16;
  StartTalking();
  PeerFinishesWriting();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::OkStatus());
  });
  EXPECT_THAT(events(), ElementsAre("end of input"));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_THAT(events(), ElementsAre("end of input", "closed OK"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsNoLongerThanASecondForThePeer) {
  StartTalking();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  Advance(absl::Milliseconds(999));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Milliseconds(1));
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, APeerThatGoesOnSendingDoesNotKeepItOpen) {
  StartTalking();
  OnLoop([this] { connection_->CloseAfterFlush(absl::CancelledError("enough")); });
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(events(), IsEmpty());
    PeerWrites(MessageFrame("and another thing").substr(0, 20));
    Advance(absl::Milliseconds(100));
  }
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, CloseAfterFlushAlsoClosesWhatHasFinishedWritingBefore) {
  struct Case {
    const char* name;
    bool peer_finishes;
  };
  for (const Case& c : {Case{"the peer has finished too", true}, Case{"the peer says nothing", false}}) {
    SCOPED_TRACE(c.name);
    recorder_.events.clear();
    StartTalking();
    connection_->FinishWriting();
    loop_->RunUntilIdle();
    if (c.peer_finishes) PeerFinishesWriting();
    recorder_.events.clear();
    OnLoop([this] { connection_->CloseAfterFlush(absl::CancelledError("enough")); });
    if (!c.peer_finishes) Advance(absl::Seconds(1));
    EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
  }
}

TEST_P(ConnectionTest, WhatFailsWhileClosingIsNotTheReason) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_reads_after = kPrefaceSize;
  OnLoop([&] {
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
    stream_->SetFaults(faults);
  });
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, APeerThatTakesNothingDoesNotKeepItOpen) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  Advance(absl::Seconds(30));
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

}  // namespace
}  // namespace ferry::transport
