// How a server shuts down with streams in flight.
#include <cstdint>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/stream_io.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

class StreamShutdownTest : public testing::Test {
 protected:
  StreamShutdownTest() : server_({.threads = 1}) {
    server_.Register(service_);
    EXPECT_TRUE(server_.Listen("127.0.0.1:0").ok());
    channel_ = ChannelTo(server_.addresses().front());
    stub_ = std::make_unique<StreamsStub>(*channel_);
  }
  ~StreamShutdownTest() override { service_.LetGo(); }

  TestStreams service_;
  Server server_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<StreamsStub> stub_;
};

void ExpectLost(const absl::Status& status) { EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status; }

// None of these handlers would ever end by itself: that Shutdown returns is what is tested.
TEST_F(StreamShutdownTest, EndsAfterTheGraceWhateverStreamsWaitFor) {
  Part part;
  Part large;
  large.add_sizes(100'000);
  // A handler whose writer is blocked, and whose replies nobody reads.
  ServerStream<Part> unread = stub_->SendForever(large);
  // One that waits for requests, in each form.
  BidiStream<Part, Part> waiting = stub_->PingPong();
  BidiStream<Part, Part> called_back = stub_->PingPongLater();
  for (BidiStream<Part, Part>* stream : {&waiting, &called_back}) {
    ASSERT_TRUE(stream->Write(Part()));
    ASSERT_TRUE(stream->Read(part));
  }
  // One that does not read: the client's writer is blocked.
  ClientStream<Part, Part> blocked = stub_->CollectWhenTold();
  std::thread writer([&blocked] {
    while (blocked.Write(PartOf(1, 100'000))) {
    }
  });
  ASSERT_TRUE(service_.WaitForBegun(2));
  server_.Shutdown(absl::Milliseconds(10));
  EXPECT_TRUE(service_.WaitForEnded(3)) << "every handler has been told";
  writer.join();
  ExpectLost(blocked.Finish().status());
  EXPECT_FALSE(waiting.Read(part));
  ExpectLost(waiting.Finish());
  EXPECT_FALSE(called_back.Write(part));
  ExpectLost(called_back.Finish());
  while (unread.Read(part)) {
  }
  ExpectLost(unread.Finish());
}

TEST_F(StreamShutdownTest, WithoutGraceCancelsAtOnce) {
  Part request;
  request.add_sizes(100'000);
  ServerStream<Part> stream = stub_->SendForever(request);
  ASSERT_TRUE(service_.WaitForBegun(1));
  server_.Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(service_.WaitForEnded(1));
  ExpectLost(stream.Finish());
}

TEST_F(StreamShutdownTest, StreamsInFlightHaveTheGrace) {
  BidiStream<Part, Part> stream = stub_->PingPong();
  Part part;
  ASSERT_TRUE(stream.Write(PartOf(0, 1)));
  ASSERT_TRUE(stream.Read(part));
  std::thread shutdown([this] { server_.Shutdown(kLongTime); });
  // Once new calls are refused.
  EXPECT_TRUE(Eventually([&] { return !stub_->Collect().Finish().ok(); }));
  for (uint64_t id = 1; id < 100; ++id) {
    ASSERT_TRUE(stream.Write(PartOf(id, 1)));
    ASSERT_TRUE(stream.Read(part));
    ASSERT_EQ(part.id(), id);
  }
  const absl::Status status = stream.Finish();
  EXPECT_TRUE(status.ok()) << status;
  shutdown.join();
}

TEST_F(StreamShutdownTest, RepliesThatWaitForTheirReaderHaveTheGraceToo) {
  Part request;
  for (int i = 0; i < 40; ++i) request.add_sizes(100'000);
  // Four windows of them.
  ServerStream<Part> stream = stub_->Send(request);
  Part part;
  ASSERT_TRUE(stream.Read(part));
  std::thread shutdown([this] { server_.Shutdown(kLongTime); });
  EXPECT_TRUE(Eventually([&] { return !stub_->Collect().Finish().ok(); }));
  uint64_t read = 1;
  while (stream.Read(part)) EXPECT_EQ(part.id(), read++);
  EXPECT_EQ(read, 40u);
  const absl::Status status = stream.Finish();
  EXPECT_TRUE(status.ok()) << status;
  shutdown.join();
}

}  // namespace
}  // namespace ferry::test::e2e
