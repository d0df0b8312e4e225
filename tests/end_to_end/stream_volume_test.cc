// Streams of very many messages, and of empty ones.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/server.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"

namespace ferry::test::e2e {
namespace {

// A sanitizer makes each some twenty times slower.
#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
constexpr uint64_t kMessages = 50'000;
#else
constexpr uint64_t kMessages = 1'000'000;
#endif

// Each test with a handler that blocks, and with one that is called back.
class StreamVolumeTest : public testing::TestWithParam<bool> {
 protected:
  StreamVolumeTest() : server_({.threads = 1, .inline_budget = absl::Hours(1)}) {
    server_.Register(service_);
    EXPECT_TRUE(server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(server_.addresses().front());
    stub_ = std::make_unique<StreamsStub>(*channel_);
  }

  bool later() const { return GetParam(); }

  TestStreams service_;
  Server server_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<StreamsStub> stub_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, StreamVolumeTest, testing::Bool(),
                         [](const auto& later) { return later.param ? "CalledBack" : "Blocking"; });

TEST_P(StreamVolumeTest, AMillionSmallRequestsArrive) {
  ClientStream<Part, Part> stream = later() ? stub_->CollectLater() : stub_->Collect();
  Part part = PartOf(1, 8);
  for (uint64_t i = 0; i < kMessages; ++i) ASSERT_TRUE(stream.Write(part));
  const absl::StatusOr<Part> reply = stream.Finish();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), kMessages);
  EXPECT_EQ(reply->payload(), part.payload());
}

TEST_P(StreamVolumeTest, AMillionSmallRepliesComeInOrder) {
  Part request;
  request.mutable_sizes()->Resize(static_cast<int>(kMessages), 8);
  ServerStream<Part> stream = later() ? stub_->SendLater(request) : stub_->Send(request);
  Part part;
  uint64_t read = 0;
  while (stream.Read(part)) {
    ASSERT_EQ(part.id(), read++);
    ASSERT_EQ(part.payload().size(), 8u);
  }
  const absl::Status status = stream.Finish();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(read, kMessages);
}

TEST_P(StreamVolumeTest, EmptyMessagesAreMessagesBothWays) {
  constexpr uint64_t kEmpty = 10'000;
  BidiStream<Part, Part> stream = later() ? stub_->PingPongLater() : stub_->PingPong();
  std::thread writer([&stream] {
    for (uint64_t i = 0; i < kEmpty; ++i) ASSERT_TRUE(stream.Write(Part()));
    stream.WritesDone();
  });
  Part part;
  uint64_t read = 0;
  while (stream.Read(part)) {
    ASSERT_EQ(part.ByteSizeLong(), 0u);
    ++read;
  }
  writer.join();
  EXPECT_EQ(read, kEmpty);
  EXPECT_TRUE(stream.Finish().ok());
}

}  // namespace
}  // namespace ferry::test::e2e
