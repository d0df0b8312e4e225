// The chat example: everybody hears everything, and a follower goes on where it was.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
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
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

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

// As the client of the example does: a stream that ends with UNAVAILABLE is begun again behind the last line.
class Follower {
 public:
  explicit Follower(const std::string& address) : channel_(ChannelTo(address)), thread_([this] { Run(); }) {}
  ~Follower() {
    stop_.request_stop();
    thread_.join();
  }

  uint64_t last() const { return last_; }
  int resumed() const { return resumed_; }

 private:
  void Run() {
    chat::ChatStub stub(*channel_);
    for (;;) {
      chat::FollowRequest request;
      request.set_after(last_);
      ServerStream<chat::Line> lines =
          stub.Follow(request, {.wait_for_ready = true, .stop_token = stop_.get_token()});
      for (chat::Line line; lines.Read(line); ++last_) {
        EXPECT_EQ(line.number(), last_ + 1) << "lost, or twice";
        EXPECT_EQ(line.text(), absl::StrCat(last_.load()));
      }
      const absl::Status status = lines.Finish();
      if (stop_.stop_requested()) return;
      ASSERT_TRUE(absl::IsUnavailable(status)) << status;
      ++resumed_;
    }
  }

  const std::unique_ptr<Channel> channel_;
  std::stop_source stop_;
  std::atomic<uint64_t> last_{0};
  std::atomic<int> resumed_{0};
  std::thread thread_;
};

TEST(ChatRestartTest, AFollowerGoesOnWhenItsServerIsStartedAgain) {
  chat::RoomService room;
  std::string address = "127.0.0.1:0";
  std::unique_ptr<Follower> follower;
  uint64_t said = 0;
  for (int restart = 0; restart < 5; ++restart) {
    Server server({.threads = 1});
    server.Register(room);
    ASSERT_TRUE(server.Listen(address).ok());
    address = server.addresses().front();
    if (follower == nullptr) follower = std::make_unique<Follower>(address);
    const std::unique_ptr<Channel> channel = ChannelTo(address);
    BidiStream<chat::Line, chat::Line> ada = chat::ChatStub(*channel).Join();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(ada.Write(LineOf("ada", absl::StrCat(said++))));
    ASSERT_TRUE(Eventually([&] { return follower->last() == said; }));
    // What is said just then is heard from the next server.
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(ada.Write(LineOf("ada", absl::StrCat(said++))));
    ASSERT_TRUE(ada.Finish().ok());
  }
  EXPECT_GE(follower->resumed(), 4);
}

}  // namespace
}  // namespace ferry::test::e2e
