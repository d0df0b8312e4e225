// How a client's session keeps deadlines and uses slots again, and which calls it gives back.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/client_session_fixture.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EncodeHeadFrame;
using test::Preface;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using transport::FrameType;
using transport::kEndStream;
using transport::kMore;
using transport::StreamId;

INSTANTIATE_TEST_SUITE_P(Slices, ClientSessionTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

std::string LengthOf(uint64_t length) { return *EncodeRequestHead({}, length, 65'535); }

// ---------------------------------------------------------------- Deadlines

TEST_P(ClientSessionTest, CancelsOnceAtTheDeadlineAndUsesTheSlotAgainWhenTheServerHasEndedTheCall) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  const std::optional<ReceivedFrame> request = peer.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 20'000u);
  Advance(absl::Milliseconds(19));
  EXPECT_FALSE(call.ended);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(call.status, absl::DeadlineExceededError(
                             "no answer from in-process before the deadline of ferry.test.Echo/Echo"));
  Advance(absl::Hours(1));
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(1));
  EXPECT_EQ(frames[0].header.type, FrameType::kCancel);
  EXPECT_EQ(frames[0].header.stream, kFirst);

  TestCall& second = NewCall();
  Start(second);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(2, 0));
  peer.Send(Response(kFirst, EncodedText("late")));
  EXPECT_EQ(call.reply.text(), "");
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(1, 1));
  // A late frame of the earlier generation is nobody's.
  peer.Send(Response(kFirst, EncodedText("later still")));
  EXPECT_FALSE(third.ended);
  peer.Send(Response(StreamId::Make(1, 1), EncodedText("third")));
  EXPECT_EQ(third.reply.text(), "third");
}

TEST_P(ClientSessionTest, IgnoresFragmentsOfACallThatHasEndedUpToTheLast) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  peer.Send(Response(kFirst, "abc", LengthHead(9), kMore));
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(call.reply_fragments.active());
  peer.Send(Fragment(kFirst, "def", kMore));
  peer.TakeFrames();
  TestCall& second = NewCall();
  Start(second);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(2, 0));
  peer.Send(Fragment(kFirst, "ghi", kEndStream));
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(peer.TakeFrame()->header.stream, StreamId::Make(1, 1));
}

TEST_P(ClientSessionTest, EndsCallsInTheOrderOfTheirDeadlines) {
  ConnectAndGreet();
  TestCall& late = NewCall("a", In(absl::Milliseconds(30)));
  TestCall& soon = NewCall("b", In(absl::Milliseconds(10)));
  TestCall& never = NewCall("c");
  Start(late);
  Start(never);
  Start(soon);
  Advance(absl::Milliseconds(10));
  EXPECT_TRUE(soon.ended);
  EXPECT_FALSE(late.ended);
  Advance(absl::Milliseconds(20));
  EXPECT_TRUE(late.ended);
  Advance(absl::Hours(100));
  EXPECT_FALSE(never.ended);
}

// ---------------------------------------------------------------- Slots, and DRAIN

TEST_P(ClientSessionTest, IsFullAtMaxStreamsAndTellsWhenASlotIsFree) {
  RawPeer& peer = ConnectAndGreet({.max_streams = 3});
  TestCall& third = NewCall();
  EXPECT_EQ(Start(NewCall()), Started::kYes);
  EXPECT_EQ(Start(NewCall()), Started::kYes);
  EXPECT_EQ(Start(third), Started::kFull);
  EXPECT_EQ(slots_freed_, 0);
  peer.Send(Response(kFirst, ""));
  EXPECT_EQ(slots_freed_, 1);
  EXPECT_EQ(Start(third), Started::kYes);
  EXPECT_EQ(third.stream, StreamId::Make(1, 1));
}

TEST_P(ClientSessionTest, FinishesItsCallsAfterDrainAndTakesNoMore) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& accepted = NewCall();
  TestCall& beyond = NewCall();
  Start(accepted);
  Start(beyond);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  EXPECT_EQ(ended_, absl::UnavailableError("the server takes no more calls"));
  TestCall& later = NewCall();
  EXPECT_EQ(Start(later), Started::kClosed);
  EXPECT_FALSE(accepted.ended);
  peer.Send(Response(kFirst, EncodedText("answered")));
  EXPECT_EQ(accepted.reply.text(), "answered");
  peer.FinishWriting();
  EXPECT_THAT(returned_, ElementsAre(&beyond));
  EXPECT_EQ(beyond.status,
            absl::UnavailableError("the server takes no more calls, this one was not executed"));
  EXPECT_EQ(session_, nullptr);
}

TEST_P(ClientSessionTest, GivesBackCallsBeyondDrainInTheirOrder) {
  RawPeer& peer = ConnectAndGreet();
  // The first slot is used last.
  Start(NewCall());
  TestCall& second = NewCall();
  Start(second);
  peer.Send(Response(kFirst, ""));
  TestCall& third = NewCall();
  Start(third);
  EXPECT_EQ(third.stream.slot(), 1u);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  EXPECT_THAT(returned_, ElementsAre(&second, &third));
}

TEST_P(ClientSessionTest, GivesBackIdempotentCallsOfAServerThatSaidNothing) {
  RawPeer& peer = Connect();
  TestCall& once = NewCall();
  TestCall& idempotent = NewCall();
  idempotent.method = &test::kIdempotentEchoMethod;
  Start(once);
  Start(idempotent);
  peer.FinishWriting();
  EXPECT_FALSE(introduced_);
  EXPECT_THAT(returned_, ElementsAre(&idempotent));
  EXPECT_EQ(once.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, EndsIdempotentCallsOfAServerThatIntroducedItself) {
  RawPeer& peer = ConnectAndGreet();
  EXPECT_TRUE(introduced_);
  TestCall& call = NewCall();
  call.method = &test::kIdempotentEchoMethod;
  Start(call);
  peer.FinishWriting();
  EXPECT_THAT(returned_, IsEmpty());
  EXPECT_EQ(call.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, GivesBackCallsThatWereNeverWritten) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& written = NewCall();
  Start(written);
  peer.TakeFrames();
  InLoop([&] { stream_->SetFaults({.stall_writes = true}); });
  TestCall& unwritten = NewCall();
  TestCall& large = NewCall(std::string(300'000, 'x'));
  large.head = LengthOf(300'004);
  Start(unwritten);
  Start(large);
  peer.FinishWriting();
  EXPECT_EQ(peer.TakeBytes(), "");
  EXPECT_THAT(returned_, ElementsAre(&unwritten, &large));
  EXPECT_THAT(std::string(unwritten.status.message()), HasSubstr("the call was not sent"));
  EXPECT_EQ(written.status.code(), StatusCode::kUnavailable);
}

TEST_P(ClientSessionTest, EndsItsCallsWhenItCloses) {
  ConnectAndGreet();
  TestCall& call = NewCall();
  InLoop([&] {
    Start(call);
    session_->Close(absl::CancelledError("closed"));
  });
  EXPECT_THAT(returned_, IsEmpty());
  EXPECT_EQ(call.status, absl::CancelledError("closed"));
}

TEST_P(ClientSessionTest, GivesBackACallThatTheServerHadNoSlotFor) {
  RawPeer& peer = Connect();
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  Start(first);
  Start(second);
  peer.Send(Preface() + test::EncodeSettingsFrame({.max_streams = 2}));
  const WireStatus refusal{.status = absl::ResourceExhaustedError("stream slot is 2, limit is 1"),
                           .not_executed = true};
  peer.Send(Status(StreamId::Make(2, 0), refusal));
  EXPECT_THAT(returned_, ElementsAre(&second));
  // Any other refusal is an answer.
  peer.Send(Status(kFirst, refusal));
  EXPECT_THAT(returned_, SizeIs(1));
  EXPECT_EQ(first.status, refusal.status);
}

TEST_P(ClientSessionTest, KeepsDeadlinesAfterDrain) {
  RawPeer& peer = ConnectAndGreet();
  TestCall& call = NewCall("hello", In(absl::Milliseconds(20)));
  Start(call);
  wire::DrainHead drain;
  drain.set_last_ordinal(1);
  peer.Send(EncodeHeadFrame(FrameType::kDrain, drain.SerializeAsString()));
  Advance(absl::Milliseconds(20));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace ferry
