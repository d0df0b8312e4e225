// What the tests of clients that break the protocol stand on.
#ifndef FERRY_TESTS_RPC_BAD_INPUT_FIXTURE_H_
#define FERRY_TESTS_RPC_BAD_INPUT_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry {

inline std::string EncodedText(const std::string& text) {
  test::Text message;
  message.set_text(text);
  return message.SerializeAsString();
}

inline std::string EchoRequest(uint32_t slot = 1, uint32_t generation = 0) {
  return test::EncodeRequest(
      {.slot = slot, .generation = generation, .method = test::kEchoId, .message = EncodedText("hello")});
}

inline void ExpectEchoes(test::RawPeer& peer, uint32_t slot, uint32_t generation) {
  peer.Send(EchoRequest(slot, generation));
  const std::optional<test::ReceivedFrame> reply = peer.TakeFrame();
  ASSERT_TRUE(reply.has_value()) << "no answer";
  EXPECT_EQ(reply->header.type, transport::FrameType::kResponse);
  EXPECT_EQ(reply->header.stream, transport::StreamId::Make(slot, generation));
  EXPECT_EQ(reply->message(), EncodedText("hello"));
}

// A BadInputTest has servers whose sessions read and write as many bytes at once as its parameter says: any
// number, and one.
//
// Thread-compatible.
class BadInputTest : public testing::TestWithParam<size_t> {
 protected:
  test::SessionServer::Options Options() const { return {.slice = GetParam()}; }
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_BAD_INPUT_FIXTURE_H_
