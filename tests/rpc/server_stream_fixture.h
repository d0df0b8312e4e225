// What the tests of a server's streams stand on.
#ifndef FERRY_TESTS_RPC_SERVER_STREAM_FIXTURE_H_
#define FERRY_TESTS_RPC_SERVER_STREAM_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/streaming_call.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.pb.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry::test {

inline constexpr uint32_t kSlot = 5;
inline constexpr uint64_t kFeatures = kFlowControlFeature | kStreamingFeature;

inline Text TextOf(const std::string& text) {
  Text message;
  message.set_text(text);
  return message;
}

inline std::string Encoded(const std::string& text) { return TextOf(text).SerializeAsString(); }

inline std::string Message(const std::string& bytes, uint8_t flags = 0, const std::string& head = "",
                           uint32_t slot = kSlot) {
  return EncodeFrame(
      {.type = transport::FrameType::kMessage, .flags = flags, .stream = transport::StreamId::Make(slot, 0)},
      head, bytes);
}

inline std::string Window(uint32_t increment, uint32_t slot) {
  wire::WindowHead head;
  head.set_increment(increment);
  return EncodeHeadFrame(transport::FrameType::kWindow, head.SerializeAsString(),
                         transport::StreamId::Make(slot, 0));
}

inline std::string BeginChat(uint32_t slot = kSlot) {
  return EncodeRequest({.slot = slot, .method = kChatId, .flags = 0});
}

inline std::string Repeated(const std::string& bytes, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += bytes;
  return all;
}

inline std::string LengthHead(uint64_t length) {
  wire::MessageHead head;
  head.set_message_length(length);
  return head.SerializeAsString();
}

// A ServerStreamFixture is a server, driven frame by frame, whose reads are of at most GetParam() bytes.
//
// Thread-compatible.
class ServerStreamFixture : public testing::TestWithParam<size_t> {
 protected:
  ServerStreamFixture() : server_(Options()) {}

  SessionServer::Options Options() {
    SessionServer::Options options{.slice = GetParam()};
    options.settings.features = kFeatures;
    options.settings.initial_stream_window = 100'000;
    return options;
  }

  // A peer on whose slot a chat has begun.
  std::unique_ptr<RawPeer> Begin(WireSettings client = {.features = kFeatures}) {
    std::unique_ptr<RawPeer> peer = server_.ConnectAndGreet(client);
    peer->Send(BeginChat());
    EXPECT_THAT(chats(), testing::SizeIs(1));
    return peer;
  }

  std::vector<BidiStreamingCall<Text, Text>>& chats() { return server_.service().chats; }

  // Echo answers with 300,000 bytes from now on.
  void AnswerWithMoreThanAWindow() {
    server_.service().on_echo = [](ScriptedEcho::Call call) {
      call.reply().set_text(std::string(300'000, 'x'));
      std::move(call).Finish(absl::OkStatus());
    };
  }

  // Reads what has come: the texts, "-" if there is none yet, "." at the end.
  std::string Read() {
    Text text;
    switch (chats()[0].requests().TryRead(text)) {
      case ReadResult::kMessage:
        return text.text();
      case ReadResult::kNothing:
        return "-";
      case ReadResult::kEnd:
        return ".";
    }
    return "?";
  }

  // Finishes the chat on the loop.
  void Finish(absl::Status status) {
    BidiStreamingCall<Text, Text> chat = std::move(chats()[0]);
    chats().clear();
    std::move(chat).Finish(std::move(status));
  }

  SessionServer server_;
};

inline std::string NameOfSlice(const testing::TestParamInfo<size_t>& info) {
  return info.param == 1 ? "OneByte" : "Whole";
}

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_SERVER_STREAM_FIXTURE_H_
