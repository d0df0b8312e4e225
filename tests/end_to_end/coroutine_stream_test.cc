// Streams of coroutines, on both sides.
#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/plain_status.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// As TestStreams, in coroutines.
class CoroutineStreams final : public StreamsService {
 public:
  Task<absl::Status> CoCollect(ServerContext&, StreamReader<Part> requests, Part& reply) override {
    uint64_t parts = 0;
    Part part;
    while (co_await requests.CoRead(part)) {
      if (part.code() != 0) co_return StatusOf(part);
      ++parts;
      reply.set_payload(part.payload());
    }
    reply.set_id(parts);
    co_return absl::OkStatus();
  }
  Task<absl::Status> CoSend(ServerContext&, const Part& request, StreamWriter<Part> replies) override {
    uint64_t id = 0;
    for (const uint32_t size : request.sizes()) {
      if (!co_await replies.CoWrite(PartOf(id++, size))) break;
    }
    co_return StatusOf(request);
  }
  Task<absl::Status> CoPingPong(ServerContext&, StreamReader<Part> requests,
                                StreamWriter<Part> replies) override {
    Part part;
    while (co_await requests.CoRead(part)) {
      if (part.code() != 0) co_return StatusOf(part);
      if (!co_await replies.CoWrite(PartOf(part.id(), part.sizes(0)))) break;
    }
    ++ended;
    co_return absl::OkStatus();
  }

  std::atomic<int> ended{0};
};

class CoroutineStreamTest : public ::testing::Test {
 protected:
  CoroutineStreamTest() {
    server_.Register(service_);
    EXPECT_TRUE(server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(server_.addresses().front());
    stub_ = std::make_unique<StreamsStub>(*channel_);
  }

  CoroutineStreams service_;
  Server server_{ServerOptions{.threads = 1, .executor_threads = 1}};
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<StreamsStub> stub_;
};

TEST_F(CoroutineStreamTest, RequestsAreCollected) {
  // More than the window.
  constexpr uint64_t kParts = 300;
  auto work = [](StreamsStub& stub) -> Task<absl::StatusOr<Part>> {
    auto stream = stub.Collect();
    for (uint64_t id = 0; id < kParts; ++id) {
      if (!co_await stream.CoWrite(PartOf(id, 10'000))) break;
    }
    co_return co_await stream.CoFinish();
  };
  const absl::StatusOr<Part> reply = BlockOn(channel_->loop(), work(*stub_));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), kParts);
  EXPECT_EQ(reply->payload(), PartOf(kParts - 1, 10'000).payload());
}

TEST_F(CoroutineStreamTest, RepliesComeInOrder) {
  auto work = [](StreamsStub& stub) -> Task<absl::Status> {
    Part request;
    for (uint32_t i = 0; i < 300; ++i) request.add_sizes(i * 100);
    request.set_code(static_cast<int>(StatusCode::kOutOfRange));
    request.set_text("that was all");
    auto stream = stub.Send(request);
    Part part;
    uint64_t id = 0;
    while (co_await stream.CoRead(part)) {
      if (part.id() != id || part.payload() != PartOf(id, id * 100).payload()) {
        co_return absl::InternalError("another part");
      }
      ++id;
    }
    if (id != 300) co_return absl::InternalError("not all parts");
    // A status that no other thread has: libabsl, which TSan does not see into, may be the last to use one.
    const absl::Status end = co_await stream.CoFinish();
    co_return absl::Status(end.code(), end.message());
  };
  EXPECT_EQ(BlockOn(channel_->loop(), work(*stub_)), absl::OutOfRangeError("that was all"));
}

TEST_F(CoroutineStreamTest, BothSidesTakeTurns) {
  auto work = [](StreamsStub& stub) -> Task<absl::Status> {
    auto stream = stub.PingPong();
    for (uint64_t id = 0; id < 100; ++id) {
      Part ping = PartOf(id, 0);
      ping.add_sizes(1000);
      if (!co_await stream.CoWrite(ping)) break;
      Part pong;
      if (!co_await stream.CoRead(pong)) break;
      if (pong.id() != id) co_return absl::InternalError("another pong");
    }
    stream.WritesDone();
    co_return co_await stream.CoFinish();
  };
  EXPECT_EQ(BlockOn(channel_->loop(), work(*stub_)), absl::OkStatus());
}

TEST_F(CoroutineStreamTest, AReaderIsWokenWhenTheCallIsCancelled) {
  std::stop_source stop;
  {
    auto stream = stub_->PingPong({.stop_token = stop.get_token()});
    Part ping = PartOf(1, 0);
    ping.add_sizes(1);
    ASSERT_TRUE(stream.Write(ping));
    Part pong;
    ASSERT_TRUE(stream.Read(pong));
    EXPECT_EQ(service_.ended, 0);
    stop.request_stop();
    EXPECT_FALSE(stream.Read(pong));
    EXPECT_EQ(Plain(stream.Finish()), absl::CancelledError("the caller cancelled the call"));
  }
  EXPECT_TRUE(Eventually([&] { return service_.ended == 1; }));
}

}  // namespace
}  // namespace ferry::test::e2e
