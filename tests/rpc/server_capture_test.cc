// The server's half of the conversation in rpc/PROTOCOL.md, as our server holds it.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/wire.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/capture.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/session_server.h"

namespace ferry {
namespace {

using test::CaptureRecord;
using test::RawPeer;
using test::SessionServer;

class ServerCaptureTest : public testing::TestWithParam<size_t> {};

INSTANTIATE_TEST_SUITE_P(Slices, ServerCaptureTest, testing::Values(static_cast<size_t>(-1), size_t{1}),
                         [](const auto& slice) { return slice.param == 1 ? "OneByte" : "Whole"; });

TEST_P(ServerCaptureTest, SaysWhatTheDocumentHasItSay) {
  const absl::StatusOr<std::string> document = test::ReadProtocolDocument();
  ASSERT_TRUE(document.ok()) << document.status();
  const absl::StatusOr<std::vector<CaptureRecord>> records = test::ParseCapture(*document, "conversation");
  ASSERT_TRUE(records.ok()) << records.status();

  SessionServer server(
      {.settings = {.features = kFlowControlFeature | kStreamingFeature}, .slice = GetParam()});
  const std::unique_ptr<RawPeer> peer = server.Connect();
  std::string received;
  for (const CaptureRecord& record : *records) {
    SCOPED_TRACE(absl::StrCat("line ", record.line, ": ", record.name));
    if (record.sender == Side::kClient) {
      if (record.name == "EOF") {
        peer->FinishWriting();
      } else {
        peer->Send(record.bytes);
      }
      // What Wait does.
      if (record.name == "CANCEL") server.service().FinishHeld(absl::OkStatus());
      received += peer->TakeBytes();
      continue;
    }
    if (record.name == "EOF") {
      EXPECT_TRUE(peer->ended());
      continue;
    }
    ASSERT_THAT(received, testing::StartsWith(record.bytes));
    received.erase(0, record.bytes.size());
  }
  EXPECT_EQ(received, "");
  EXPECT_EQ(server.open_sessions(), 0u);
}

}  // namespace
}  // namespace ferry
