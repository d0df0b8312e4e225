// What the tests of a server's session stand on.
#ifndef FERRY_TESTS_RPC_SERVER_SESSION_FIXTURE_H_
#define FERRY_TESTS_RPC_SERVER_SESSION_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "ferry/rpc/wire.h"
#include "ferry/rpc/wire.pb.h"
#include "ferry/transport/frame.h"
#include "gtest/gtest.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry {

inline std::string Cancel(uint32_t slot, uint32_t generation) {
  return test::EncodeHeadFrame(transport::FrameType::kCancel, "",
                               transport::StreamId::Make(slot, generation));
}

inline std::string Fragment(uint32_t slot, const std::string& bytes, uint8_t flags) {
  return test::EncodeFrame(
      {.type = transport::FrameType::kMessage, .flags = flags, .stream = transport::StreamId::Make(slot, 0)},
      "", bytes);
}

inline std::string LengthHead(uint64_t length) {
  wire::RequestHead head;
  head.set_message_length(length);
  return head.SerializeAsString();
}

// A ServerSessionTest has servers whose sessions read and write as many bytes at once as its parameter says.
//
// Thread-compatible.
class ServerSessionTest : public testing::TestWithParam<size_t> {
 protected:
  test::SessionServer::Options Options() const { return {.slice = GetParam()}; }

  void ExpectStatus(const test::ReceivedFrame& frame, absl::StatusCode code, const std::string& text,
                    bool not_executed) {
    const WireStatus told = frame.status();
    EXPECT_EQ(told.status.code(), code);
    EXPECT_EQ(std::string(told.status.message()), text);
    EXPECT_EQ(told.not_executed, not_executed);
  }
};

}  // namespace ferry

#endif  // FERRY_TESTS_RPC_SERVER_SESSION_FIXTURE_H_
