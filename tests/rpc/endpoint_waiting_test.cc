// How the calls of an endpoint wait for slots, and how they end while they do.
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/endpoint_fixture.h"
#include "tests/testing/plain_status.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::Plain;
using test::RawPeer;
using test::ReceivedFrame;
using test::TestCall;
using testing::HasSubstr;
using testing::SizeIs;
using transport::FrameType;

// ---------------------------------------------------------------- Slots and queues

TEST_F(EndpointTest, HasCallsWaitForSlots) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_streams = 3});
  for (int i = 0; i < 4; ++i) StartAndSettle(NewCall());
  EXPECT_THAT(peer.TakeFrames(), SizeIs(2));
  peer.Send(Response(2) + Response(1));
  const std::vector<ReceivedFrame> frames = peer.TakeFrames();
  ASSERT_THAT(frames, SizeIs(2));
  EXPECT_EQ(frames[0].header.stream.generation(), 1u);
  peer.Send(Response(1, 1) + Response(2, 1));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1));
  EXPECT_FALSE(calls_.back().ended);
  peer.Send(Response(1, 2) + Response(2, 2));
  for (const TestCall& call : calls_) EXPECT_TRUE(call.status.ok()) << call.status;
}

TEST_F(EndpointTest, RefusesCallsBeyondThoseThatMayWait) {
  Create({.max_waiting_calls = 2});
  script_.hang = true;
  StartAndSettle(NewCall());
  StartAndSettle(NewCall());
  TestCall& call = StartAndSettle(NewCall());
  EXPECT_EQ(call.status, absl::ResourceExhaustedError("2 calls wait to be sent, limit is 2"));
}

TEST_F(EndpointTest, RefusesRequestsBeyondTheBytesThatMayWait) {
  Create({.max_waiting_bytes = 150});
  script_.hang = true;
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  first.request.set_text(std::string(98, 'x'));
  second.request.set_text(std::string(98, 'x'));
  StartAndSettle(first);
  StartAndSettle(second);
  EXPECT_FALSE(first.ended);
  EXPECT_EQ(second.status,
            absl::ResourceExhaustedError("200 bytes of requests wait to be sent, limit is 150"));
}

TEST_F(EndpointTest, RefusesWhatTheServerWould) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_message = 65'536});
  peer.TakeFrames();
  TestCall& large = NewCall();
  large.request.set_text(std::string(70'000, 'x'));
  TestCall& heady = NewCall();
  heady.head = *EncodeRequestHead({{"a", std::string(20'000, 'x')}}, 0, 65'535);
  const size_t head_size = heady.head.size();
  StartAndSettle(large);
  StartAndSettle(heady);
  EXPECT_EQ(large.status, absl::ResourceExhaustedError("request is 70004 bytes, limit is 65536"));
  EXPECT_EQ(heady.status,
            absl::ResourceExhaustedError(absl::StrCat("metadata is ", head_size, " bytes, limit is 16384")));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(0));
}

// ---------------------------------------------------------------- Deadlines, and the end

TEST_F(EndpointTest, EndsACallWhoseDeadlinePassesBeforeItIsSent) {
  Create();
  script_.failures = 1000;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true, In(absl::Milliseconds(500))));
  for (int i = 0; i < 499; ++i) Advance(absl::Milliseconds(1));
  EXPECT_FALSE(call.ended);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(call.status,
            absl::DeadlineExceededError("the deadline of ferry.test.Echo/Echo passed before it could be "
                                        "sent: nobody listens there"));
}

TEST_F(EndpointTest, EndsACallWhoseDeadlinePassesWhileItWaitsForASlot) {
  Create();
  StartAndSettle(NewCall());
  RawPeer& peer = Greet(0, {.max_streams = 2});
  TestCall& call = StartAndSettle(NewCall(false, In(absl::Milliseconds(5))));
  Advance(absl::Milliseconds(5));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(call.status.message()), HasSubstr("every stream of the connection is in use"));
  peer.Send(Response(1));
  EXPECT_THAT(peer.TakeFrames(), SizeIs(1)) << "the call that has ended was sent";
}

TEST_F(EndpointTest, KeepsTheDeadlineOfACallThatWaitedAndWasSent) {
  Create();
  script_.failures = 1;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true, In(absl::Seconds(2))));
  Advance(absl::Seconds(1));
  RawPeer& peer = Greet();
  const std::optional<ReceivedFrame> request = peer.TakeFrame();
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(DecodeRequestPrefix(request->body.data()).timeout_us, 1'000'000u);
  Advance(absl::Seconds(1));
  EXPECT_EQ(call.status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(peer.TakeFrame()->header.type, FrameType::kCancel);
}

TEST_F(EndpointTest, EndsEveryCallWhenItCloses) {
  Create();
  TestCall& sent = StartAndSettle(NewCall());
  Greet(0, {.max_streams = 2});
  TestCall& waiting = StartAndSettle(NewCall());
  Close();
  TestCall& late = StartAndSettle(NewCall());
  for (const TestCall* call : {&sent, &waiting, &late}) {
    EXPECT_EQ(Plain(call->status), absl::CancelledError("the test ends"));
  }
}

TEST_F(EndpointTest, EndsCallsWhenItClosesWhileItConnects) {
  Create();
  script_.hang = true;
  TestCall& call = StartAndSettle(NewCall(/*wait_for_ready=*/true));
  Close();
  EXPECT_EQ(call.status, absl::CancelledError("the test ends"));
}

TEST_F(EndpointTest, EndsACallOnceHoweverItsEndsCoincide) {
  // A reply, a STATUS, the deadline and the connection's end, all to be found in one batch.
  Create();
  TestCall& call = StartAndSettle(NewCall(false, In(absl::Milliseconds(5))));
  RawPeer& peer = Greet();
  clock_.Advance(absl::Milliseconds(5));
  peer.Send(Response(1) + Response(1));
  peer.FinishWriting();
  EXPECT_TRUE(call.ended);
}

TEST_F(EndpointTest, LivesOnWhenACallsEndClosesIt) {
  Create();
  TestCall& first = NewCall();
  TestCall& second = NewCall();
  first.on_end = [&] { endpoint_->Close(absl::CancelledError("closed by a call's end")); };
  StartAndSettle(first);
  StartAndSettle(second);
  Greet().Send(Response(1));
  EXPECT_TRUE(first.status.ok()) << first.status;
  EXPECT_EQ(second.status, absl::CancelledError("closed by a call's end"));
}

}  // namespace
}  // namespace ferry
