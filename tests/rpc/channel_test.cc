// A channel and a server together, on threads of their own and joined by memory.
#include "ferry/rpc/channel.h"

#include <sys/uio.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_call.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/memory_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo.ferry.h"
#include "tests/testing/plain_status.h"
#include "tests/testing/raw_peer.h"

namespace ferry {
namespace {

using absl::StatusCode;
using test::EchoStub;
using test::Plain;
using test::Text;
using testing::HasSubstr;

// Answers Echo on the executor, and keeps the calls of Wait until it is told to let go.
class Echo final : public test::EchoService {
 public:
  void StartEcho(UnaryCall<Text, Text> call) override {
    call.reply().set_text(call.request().text());
    std::move(call).Finish(absl::OkStatus());
  }
  void StartWait(UnaryCall<Text, Text> call) override {
    absl::MutexLock lock(&mutex_);
    held_.push_back(std::move(call));
  }
  void AwaitHeld(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return held_.size() >= count; };
    mutex_.Await(absl::Condition(&enough));
  }
  void LetGo() {
    std::vector<UnaryCall<Text, Text>> held;
    {
      absl::MutexLock lock(&mutex_);
      held.swap(held_);
    }
    for (auto& call : held) std::move(call).Finish(absl::OkStatus());
  }

 private:
  absl::Mutex mutex_;
  std::vector<UnaryCall<Text, Text>> held_;
};

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    server_.Register(echo_);
    absl::StatusOr<std::unique_ptr<Channel>> channel = CreateInProcessChannel(server_);
    EXPECT_TRUE(channel.ok()) << channel.status();
    channel_ = *std::move(channel);
    request_.set_text("hello");
  }
  ~ChannelTest() override { echo_.LetGo(); }

  Echo echo_;
  Server server_{{.threads = 1, .executor_threads = 2}};
  std::unique_ptr<Channel> channel_;
  Text request_;
};

TEST_F(ChannelTest, CarriesACall) {
  const absl::StatusOr<Text> reply = EchoStub(*channel_).Echo(request_);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->text(), "hello");
}

TEST_F(ChannelTest, CarriesLargeMessagesBothWays) {
  request_.set_text(std::string(3'000'000, 'x'));
  const absl::StatusOr<Text> reply = EchoStub(*channel_).Echo(request_);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->text(), request_.text());
}

TEST_F(ChannelTest, EndsACallThatHasNoTimeFromTheStart) {
  const absl::StatusOr<Text> reply = EchoStub(*channel_).Echo(request_, {.timeout = absl::ZeroDuration()});
  EXPECT_EQ(Plain(reply.status()),
            absl::DeadlineExceededError("the timeout of ferry.test.Echo/Echo is 0, nothing was sent"));
}

TEST_F(ChannelTest, EndsACallWithBadMetadata) {
  const absl::StatusOr<Text> reply = EchoStub(*channel_).Echo(request_, {.metadata = {{"A", "b"}}});
  EXPECT_EQ(reply.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(reply.status().message()), HasSubstr("metadata key \"A\""));
}

TEST_F(ChannelTest, EndsCallsInFlightWhenItIsDestroyed) {
  absl::Notification done;
  absl::Status status;
  EchoStub(*channel_).Wait(request_, {}, [&](const absl::StatusOr<Text>& reply) {
    status = reply.status();
    done.Notify();
  });
  echo_.AwaitHeld(1);
  channel_.reset();
  ASSERT_TRUE(done.HasBeenNotified()) << "every callback has returned before the channel is gone";
  EXPECT_EQ(Plain(status), absl::CancelledError("the channel was destroyed"));
}

TEST_F(ChannelTest, MayBeDestroyedInACallback) {
  absl::Notification done;
  EchoStub(*channel_).Echo(request_, {}, [&](const absl::StatusOr<Text>&) {
    channel_.reset();
    done.Notify();
  });
  done.WaitForNotification();
}

// A connector whose streams write at once, but return from it only when the connector is gone, unless it is a
// loop that writes.
class LateConnector final : public transport::Connector {
 public:
  // Shared by the test, the connector and its streams.
  struct State {
    std::atomic<bool> late{false};
    absl::Notification gone;
  };

  LateConnector(std::unique_ptr<transport::Connector> connector, std::shared_ptr<State> state)
      : connector_(std::move(connector)), state_(std::move(state)) {}
  ~LateConnector() override { state_->gone.Notify(); }

  std::unique_ptr<Attempt> Connect(transport::EventLoop& loop, transport::Instant deadline,
                                   Callback done) override {
    return connector_->Connect(loop, deadline,
                               [this, done = std::move(done)](
                                   absl::StatusOr<std::unique_ptr<transport::ByteStream>> stream) mutable {
                                 if (stream.ok())
                                   stream = std::make_unique<LateStream>(*std::move(stream), state_);
                                 std::move(done)(std::move(stream));
                               });
  }

 private:
  class LateStream final : public transport::ByteStream {
   public:
    LateStream(std::unique_ptr<transport::ByteStream> stream, std::shared_ptr<State> state)
        : stream_(std::move(stream)), state_(std::move(state)) {}
    absl::Status Watch(transport::EventLoop& loop, ReadyHandler& handler) override {
      return stream_->Watch(loop, handler);
    }
    transport::IoResult Read(absl::Span<const iovec> parts) override { return stream_->Read(parts); }
    transport::IoResult Write(absl::Span<const iovec> parts) override {
      transport::IoResult result = stream_->Write(parts);
      if (state_->late.load() && !transport::EventLoop::InAnyLoop()) state_->gone.WaitForNotification();
      return result;
    }
    void FinishWriting() override { stream_->FinishWriting(); }
    void Close() override { stream_->Close(); }
    std::string peer() const override { return stream_->peer(); }

   private:
    const std::unique_ptr<transport::ByteStream> stream_;
    const std::shared_ptr<State> state_;
  };

  const std::unique_ptr<transport::Connector> connector_;
  const std::shared_ptr<State> state_;
};

TEST_F(ChannelTest, MayBeDestroyedInACallbackBeforeTheCallsStartReturns) {
  const auto state = std::make_shared<LateConnector::State>();
  absl::Notification ended;
  channel_ = *Channel::CreateOver(std::make_unique<LateConnector>(
      std::make_unique<transport::MemoryConnector>(
          [this](std::unique_ptr<transport::ByteStream> stream) { return server_.Serve(std::move(stream)); }),
      state));
  EchoStub stub(*channel_);
  ASSERT_TRUE(stub.Echo(request_).ok());
  state->late.store(true);
  stub.Echo(request_, {}, [&](const absl::StatusOr<Text>& reply) {
    EXPECT_TRUE(reply.ok()) << reply.status();
    channel_.reset();
    ended.Notify();
  });
  // If the loop was in a batch just then, it has written the request, and Start has returned before.
  ended.WaitForNotification();
  state->gone.WaitForNotification();
}

TEST_F(ChannelTest, RefusesToWaitInACallback) {
  absl::Notification done;
  absl::Status status;
  EchoStub stub(*channel_);
  stub.Echo(request_, {}, [&](const absl::StatusOr<Text>&) {
    status = stub.Echo(request_).status();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
}

// The client's EOF is handled on the loop while the executor ends the call: whichever comes first, the answer
// is sent.
TEST_F(ChannelTest, TheServerAnswersEvenIfTheClientStopsWritingJustThen) {
  // A PING may stand beside it.
  const std::string answer = test::EncodeFrame({.type = transport::FrameType::kResponse,
                                                .flags = transport::kEndStream,
                                                .stream = transport::StreamId::Make(1, 0)},
                                               "", request_.SerializeAsString());
  for (int round = 0; round < 300; ++round) {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    ASSERT_TRUE(server_.Serve(std::move(pair.second)).ok());
    const std::string bytes = test::Preface() + test::EncodeSettingsFrame() +
                              test::EncodeRequest({.method = MethodId("ferry.test.Echo/Echo"),
                                                   .message = request_.SerializeAsString()});
    const iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
    ASSERT_EQ(pair.first->Write({&part, 1}).bytes, bytes.size());
    for (int spin = 0; spin < round; ++spin) std::this_thread::yield();
    pair.first->FinishWriting();
    std::string received;
    for (;;) {
      char buffer[512];
      const iovec room{.iov_base = buffer, .iov_len = sizeof(buffer)};
      const transport::IoResult result = pair.first->Read({&room, 1});
      if (result.state == transport::IoResult::State::kEnd ||
          result.state == transport::IoResult::State::kFailed)
        break;
      received.append(buffer, result.bytes);
      if (result.bytes == 0) std::this_thread::yield();
    }
    EXPECT_THAT(received, testing::HasSubstr(answer)) << "round " << round;
  }
}

// Threads that call, cancel by deadlines, and lose their connections: every call ends, once.
TEST_F(ChannelTest, EndsEveryCallOfManyThreads) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, i] {
      EchoStub stub(*channel_);
      for (int round = 0; round < 200; ++round) {
        CallOptions options;
        if (i == 0) options.timeout = absl::Microseconds(1 + round);
        const absl::StatusOr<Text> reply = stub.Echo(request_, options);
        EXPECT_TRUE(reply.ok() || i == 0) << reply.status();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace ferry
