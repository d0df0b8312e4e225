// What the tests of an endpoint stand on.
#ifndef FERRY_TESTS_RPC_ENDPOINT_FIXTURE_H_
#define FERRY_TESTS_RPC_ENDPOINT_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/scripted_connector.h"
#include "tests/testing/test_call.h"

namespace ferry {

inline std::string Response(uint32_t slot, uint32_t generation = 0) {
  return test::EncodeFrame({.type = transport::FrameType::kResponse,
                            .flags = transport::kEndStream,
                            .stream = transport::StreamId::Make(slot, generation)});
}

inline std::string Drain(uint64_t last_ordinal) {
  wire::DrainHead head;
  head.set_last_ordinal(last_ordinal);
  return test::EncodeHeadFrame(transport::FrameType::kDrain, head.SerializeAsString());
}

// What the requests among `frames` say.
inline std::vector<std::string> TextsOf(const std::vector<test::ReceivedFrame>& frames) {
  std::vector<std::string> texts;
  for (const test::ReceivedFrame& frame : frames) {
    if (frame.header.type != transport::FrameType::kRequest) continue;
    test::Text text;
    EXPECT_TRUE(text.ParseFromString(frame.message()));
    texts.push_back(text.text());
  }
  return texts;
}

// An EndpointTest has an endpoint whose connections its script makes, and plays the server on each.
//
// Thread-compatible.
class EndpointTest : public testing::Test {
 protected:
  EndpointTest() {
    absl::StatusOr<std::unique_ptr<transport::EventLoop>> loop =
        transport::EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }
  ~EndpointTest() override { Close(); }

  void Create(const Endpoint::Options& options = {}) {
    endpoint_ = Endpoint::Create(options, *loop_, std::make_unique<test::ScriptedConnector>(script_));
  }
  void Close() {
    if (endpoint_ == nullptr) return;
    InLoop([&] { endpoint_->Close(absl::CancelledError("the test ends")); });
  }

  test::TestCall& NewCall(bool wait_for_ready = false,
                          transport::Instant until = transport::Instant::Infinite()) {
    return NewCallOf("hello", wait_for_ready, until);
  }
  test::TestCall& NewCallOf(const std::string& text, bool wait_for_ready = false,
                            transport::Instant until = transport::Instant::Infinite()) {
    test::TestCall& call = calls_.emplace_back(text, until);
    call.wait_for_ready = wait_for_ready;
    return call;
  }
  test::TestCall& Start(test::TestCall& call) {
    endpoint_->Start(call, call.request, call.request.ByteSizeLong());
    EXPECT_FALSE(call.ended) << "inside Start";
    return call;
  }
  test::TestCall& StartAndSettle(test::TestCall& call) {
    Start(call);
    loop_->RunUntilIdle();
    return call;
  }

  // The server's end of the `index`th connection.
  test::RawPeer& Peer(size_t index = 0) {
    while (peers_.size() < script_.far_ends.size()) {
      peers_.push_back(std::make_unique<test::RawPeer>(std::move(script_.far_ends[peers_.size()]),
                                                       [this] { loop_->RunUntilIdle(); }));
    }
    return *peers_.at(index);
  }
  // The same, after a server has introduced itself and taken what the client says of itself.
  test::RawPeer& Greet(size_t index = 0, const WireSettings& settings = {}) {
    test::RawPeer& peer = Peer(index);
    peer.Send(test::Preface() + test::EncodeSettingsFrame(settings));
    EXPECT_TRUE(peer.TakePreface());
    const std::optional<test::ReceivedFrame> first = peer.TakeFrame();
    EXPECT_TRUE(first.has_value() && first->header.type == transport::FrameType::kSettings);
    return peer;
  }

  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    loop_->RunUntilIdle();
  }
  transport::Instant In(absl::Duration time) { return clock_.Now() + time; }

  transport::ManualClock clock_;
  std::deque<test::TestCall> calls_;
  test::ScriptedConnector::Script script_;
  std::unique_ptr<transport::EventLoop> loop_;
  std::shared_ptr<Endpoint> endpoint_;
  std::vector<std::unique_ptr<test::RawPeer>> peers_;
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_ENDPOINT_FIXTURE_H_
