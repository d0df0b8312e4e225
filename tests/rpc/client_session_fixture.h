// What the tests of a client's session stand on.
#ifndef FERRY_TESTS_RPC_CLIENT_SESSION_FIXTURE_H_
#define FERRY_TESTS_RPC_CLIENT_SESSION_FIXTURE_H_

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
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/client_session.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/test_call.h"

namespace ferry {

inline std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

inline std::string Response(transport::StreamId stream, const std::string& message,
                            const std::string& head = "", uint8_t flags = transport::kEndStream) {
  return test::EncodeFrame({.type = transport::FrameType::kResponse, .flags = flags, .stream = stream}, head,
                           message);
}
inline std::string Fragment(transport::StreamId stream, const std::string& message, uint8_t flags) {
  return test::EncodeFrame({.type = transport::FrameType::kMessage, .flags = flags, .stream = stream}, "",
                           message);
}
inline std::string Status(transport::StreamId stream, const WireStatus& status) {
  return test::EncodeHeadFrame(transport::FrameType::kStatus, EncodeStatusHead(status, 16384), stream,
                               transport::kEndStream);
}
inline std::string LengthHead(uint64_t length) { return *EncodeResponseHead({}, {}, length, 16384); }

// The stream of a session's first call.
inline constexpr transport::StreamId kFirst = transport::StreamId::Make(1, 0);

// A ClientSessionTest has a session that reads and writes as many bytes at once as its parameter says, and is
// its owner.
//
// Thread-compatible.
class ClientSessionTest : public testing::TestWithParam<size_t>, protected ClientSession::Owner {
 protected:
  using Started = ClientSession::Started;

  ClientSessionTest() {
    absl::StatusOr<std::unique_ptr<transport::EventLoop>> loop =
        transport::EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }
  ~ClientSessionTest() override {
    if (session_ != nullptr) InLoop([&] { session_->Close(absl::CancelledError("the test ends")); });
    loop_->RunUntilIdle();
  }

  // A session, and the server's end of its connection.
  test::RawPeer& Connect(const ClientSession::Options& options = {}) {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    auto stream = std::make_unique<test::FaultyStream>(
        std::move(pair.first), test::FaultyStream::Faults{.max_read = GetParam(), .max_write = GetParam()});
    stream_ = stream.get();
    session_ = std::make_shared<ClientSession>(options, *loop_, static_cast<ClientSession::Owner&>(*this),
                                               std::move(stream));
    InLoop([&] { session_->Begin(); });
    peer_ = std::make_unique<test::RawPeer>(std::move(pair.second), [this] { loop_->RunUntilIdle(); });
    return *peer_;
  }

  // The same, with prefaces and SETTINGS exchanged.
  test::RawPeer& ConnectAndGreet(const WireSettings& server = {},
                                 const ClientSession::Options& options = {}) {
    test::RawPeer& peer = Connect(options);
    peer.Send(test::Preface() + test::EncodeSettingsFrame(server));
    EXPECT_TRUE(peer.TakePreface());
    const std::optional<test::ReceivedFrame> settings = peer.TakeFrame();
    EXPECT_TRUE(settings.has_value() && settings->header.type == transport::FrameType::kSettings);
    return peer;
  }

  Started Start(test::TestCall& call) {
    return session_->Start(call, call.request, call.request.ByteSizeLong());
  }

  // A call that outlives the session.
  test::TestCall& NewCall(const std::string& text = "hello",
                          transport::Instant until = transport::Instant::Infinite()) {
    return calls_.emplace_back(text, until);
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

  void OnIntroduced(ClientSession&) override { introduced_ = true; }
  void OnNoMoreCalls(ClientSession&, const absl::Status& why) override {
    EXPECT_FALSE(ended_.has_value()) << "the end was told twice";
    ended_ = why;
  }
  void OnSessionClosed(ClientSession&) override {
    EXPECT_TRUE(ended_.has_value()) << "closed before it ended";
    loop_->Post([session = std::move(session_)] {});
  }
  void OnSlotFree() override { ++slots_freed_; }
  void OnCallsReturned(const std::vector<ClientCall*>& calls, const absl::Status& why) override {
    EXPECT_TRUE(ended_.has_value() || absl::IsResourceExhausted(why)) << why;
    for (ClientCall* call : calls) {
      returned_.push_back(call);
      call->End(why);
    }
  }

  std::deque<test::TestCall> calls_;
  transport::ManualClock clock_;
  std::unique_ptr<transport::EventLoop> loop_;
  // The session's end of the connection.
  test::FaultyStream* stream_ = nullptr;
  // Null once it is closed.
  std::shared_ptr<ClientSession> session_;
  std::unique_ptr<test::RawPeer> peer_;
  std::optional<absl::Status> ended_;
  int slots_freed_ = 0;
  bool introduced_ = false;
  // The calls that the session has given back.
  std::vector<ClientCall*> returned_;
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_CLIENT_SESSION_FIXTURE_H_
