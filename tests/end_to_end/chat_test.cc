// The chat example: everybody hears everything, and a follower goes on where it was.
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "examples/chat/chat.ferry.h"
#include "examples/chat/chat_service.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "gtest/gtest.h"

namespace ferry::test::e2e {
namespace {

chat::Line LineOf(const std::string& speaker, const std::string& text) {
  chat::Line line;
  line.set_speaker(speaker);
  line.set_text(text);
  return line;
}

class ChatTest : public testing::Test {
 protected:
  ChatTest() { server_.Register(room_); }

  chat::ChatStub NewClient() {
    absl::StatusOr<std::unique_ptr<Channel>> channel = CreateInProcessChannel(server_);
    EXPECT_TRUE(channel.ok()) << channel.status();
    channels_.push_back(*std::move(channel));
    return chat::ChatStub(*channels_.back());
  }

  chat::RoomService room_;
  Server server_{{.threads = 2}};
  std::vector<std::unique_ptr<Channel>> channels_;
};

TEST_F(ChatTest, EverybodyHearsWhatIsSaid) {
  BidiStream<chat::Line, chat::Line> ada = NewClient().Join();
  ASSERT_TRUE(ada.Write(LineOf("ada", "anybody here?")));
  chat::Line heard;
  ASSERT_TRUE(ada.Read(heard));
  BidiStream<chat::Line, chat::Line> bob = NewClient().Join();
  ASSERT_TRUE(bob.Write(LineOf("bob", "yes")));
  for (BidiStream<chat::Line, chat::Line>* member : {&ada, &bob}) {
    ASSERT_TRUE(member->Read(heard));
    EXPECT_EQ(heard.text(), "yes");
    EXPECT_EQ(heard.number(), 2u);
  }
  EXPECT_TRUE(ada.Finish().ok());
  EXPECT_TRUE(bob.Finish().ok());
}

TEST_F(ChatTest, AFollowerGoesOnWhereItWas) {
  BidiStream<chat::Line, chat::Line> ada = NewClient().Join();
  constexpr int kLines = 2'000;
  chat::ChatStub stub = NewClient();
  uint64_t last = 0;
  {
    ServerStream<chat::Line> lines = stub.Follow({});
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(ada.Write(LineOf("ada", absl::StrCat(i))));
    chat::Line line;
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(lines.Read(line));
    last = line.number();
  }
  for (int i = 10; i < kLines; ++i) ASSERT_TRUE(ada.Write(LineOf("ada", absl::StrCat(i))));
  chat::FollowRequest request;
  request.set_after(last);
  ServerStream<chat::Line> lines = stub.Follow(request);
  for (int i = 5; i < kLines; ++i) {
    chat::Line line;
    ASSERT_TRUE(lines.Read(line));
    ASSERT_EQ(line.text(), absl::StrCat(i));
  }
}

}  // namespace
}  // namespace ferry::test::e2e
