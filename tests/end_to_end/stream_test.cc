// Calls that stream, over every kind of address, with blocking handlers and such that are called back.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/stream_io.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/stream_service.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using testing::HasSubstr;

// The text that implementations of gRPC are tested with.
constexpr char kOddText[] = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n";

// A method in both of its forms.
using CollectMethod = ClientStream<Part, Part> (StreamsStub::*)(const CallOptions&);
using SendMethod = ServerStream<Part> (StreamsStub::*)(const Part&, const CallOptions&);
using PingPongMethod = BidiStream<Part, Part> (StreamsStub::*)(const CallOptions&);
constexpr CollectMethod kCollects[] = {&StreamsStub::Collect, &StreamsStub::CollectLater};
constexpr SendMethod kSends[] = {&StreamsStub::Send, &StreamsStub::SendLater};
constexpr PingPongMethod kPingPongs[] = {&StreamsStub::PingPong, &StreamsStub::PingPongLater};

class StreamTest : public testing::TestWithParam<std::string> {
 protected:
  StreamTest() : address_(NewAddress(is_fleet() || is_pool() ? "127.0.0.1:0" : GetParam(), directory_)) {
    server_ = std::make_unique<Server>(ServerOptions{.threads = 2, .inline_budget = absl::Hours(1)});
    server_->Register(service_);
    if (address_.empty()) {
      channel_ = *CreateInProcessChannel(*server_);
    } else {
      EXPECT_TRUE(server_->Listen(address_).ok());
      const std::string address = server_->addresses().front();
      ChannelOptions options;
      if (is_pool()) options.pool = {.max_connections = 3, .calls_per_connection = 1};
      channel_ = ChannelTo(is_fleet() ? absl::StrCat("list:///", address) : address, options);
    }
    stub_ = std::make_unique<StreamsStub>(*channel_);
  }
  ~StreamTest() override { service_.LetGo(); }

  // Whether the channel is to a service of one server, instead of to the server.
  bool is_fleet() const { return GetParam() == "fleet"; }
  // Whether it has several connections.
  bool is_pool() const { return GetParam() == "pool"; }

  const TemporaryDirectory directory_;
  const std::string address_;
  TestStreams service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<StreamsStub> stub_;
};

INSTANTIATE_TEST_SUITE_P(Transports, StreamTest,
                         testing::Values("127.0.0.1:0", "unix", "in-process", "fleet", "pool"),
                         [](const testing::TestParamInfo<std::string>& info) {
                           if (info.param == "127.0.0.1:0") return std::string("Tcp");
                           if (info.param == "fleet") return std::string("Fleet");
                           if (info.param == "pool") return std::string("Pool");
                           return std::string(info.param == "unix" ? "Unix" : "InProcess");
                         });

Part RequestFor(const std::vector<uint32_t>& sizes, int code = 0, std::string text = "") {
  Part request;
  for (const uint32_t size : sizes) request.add_sizes(size);
  request.set_code(code);
  request.set_text(std::move(text));
  return request;
}

// ---------------------------------------------------------------- Each kind

TEST_P(StreamTest, AStreamOfRequestsIsAnsweredOnce) {
  for (const CollectMethod method : kCollects) {
    ClientStream<Part, Part> stream = ((*stub_).*method)({});
    for (const size_t size : {27'182, 8, 1'828, 45'904}) EXPECT_TRUE(stream.Write(PartOf(1, size)));
    const absl::StatusOr<Part> reply = stream.Finish();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 4u);
    EXPECT_TRUE(reply->payload() == PartOf(1, 45'904).payload());
  }
}

TEST_P(StreamTest, AStreamOfRepliesComesInOrder) {
  const std::vector<uint32_t> sizes = {31'415, 9, 2'653, 58'979, 0, 200'000};
  for (const SendMethod method : kSends) {
    ServerStream<Part> stream = ((*stub_).*method)(RequestFor(sizes), {});
    for (size_t i = 0; i < sizes.size(); ++i) {
      Part part;
      ASSERT_TRUE(stream.Read(part));
      EXPECT_EQ(part.id(), i);
      EXPECT_TRUE(part.payload() == PartOf(i, sizes[i]).payload()) << part.payload().size();
    }
    Part none;
    EXPECT_FALSE(stream.Read(none));
    EXPECT_TRUE(stream.Finish().ok());
  }
}

TEST_P(StreamTest, BothSidesTakeTurns) {
  for (const PingPongMethod method : kPingPongs) {
    BidiStream<Part, Part> stream = ((*stub_).*method)({});
    const size_t up[] = {27'182, 8, 1'828, 45'904};
    const uint32_t down[] = {31'415, 9, 2'653, 58'979};
    for (uint64_t i = 0; i < 4; ++i) {
      Part ping = PartOf(i, up[i]);
      ping.add_sizes(down[i]);
      ASSERT_TRUE(stream.Write(ping));
      Part pong;
      ASSERT_TRUE(stream.Read(pong));
      EXPECT_EQ(pong.id(), i);
      EXPECT_TRUE(pong.payload() == PartOf(i, down[i]).payload());
    }
    EXPECT_TRUE(stream.WritesDone());
    Part none;
    EXPECT_FALSE(stream.Read(none));
    EXPECT_TRUE(stream.Finish().ok());
  }
}

TEST_P(StreamTest, TheChannelTellsOfItsStreams) {
  const auto streams = [this] {
    uint64_t count = 0;
    for (const ConnectionStats& connection : channel_->connections()) count += connection.streams;
    return count;
  };
  BidiStream<Part, Part> stream = stub_->PingPong({});
  Part part;
  ASSERT_TRUE(stream.Write(part));
  ASSERT_TRUE(stream.Read(part));
  EXPECT_EQ(streams(), 1u);
  EXPECT_TRUE(stream.WritesDone());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(streams(), 0u);
}

TEST_P(StreamTest, AnEmptyStreamIsOne) {
  for (const CollectMethod method : kCollects) {
    const absl::StatusOr<Part> reply = ((*stub_).*method)({}).Finish();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 0u);
  }
  for (const SendMethod method : kSends) {
    ServerStream<Part> stream = ((*stub_).*method)(Part(), {});
    Part none;
    EXPECT_FALSE(stream.Read(none));
    EXPECT_TRUE(stream.Finish().ok());
  }
  for (const PingPongMethod method : kPingPongs) EXPECT_TRUE(((*stub_).*method)({}).Finish().ok());
}

TEST_P(StreamTest, EmptyMessagesAreMessages) {
  for (const CollectMethod method : kCollects) {
    ClientStream<Part, Part> stream = ((*stub_).*method)({});
    for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(stream.Write(Part()));
    const absl::StatusOr<Part> reply = stream.Finish();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 1'000u);
  }
}

TEST_P(StreamTest, ManySmallMessagesKeepTheirOrder) {
  constexpr uint64_t kMessages = 50'000;
  for (const PingPongMethod method : kPingPongs) {
    BidiStream<Part, Part> stream = ((*stub_).*method)({});
    std::thread writer([&stream] {
      for (uint64_t i = 0; i < kMessages; ++i) ASSERT_TRUE(stream.Write(PartOf(i, 0)));
      stream.WritesDone();
    });
    Part part;
    uint64_t read = 0;
    while (stream.Read(part)) {
      ASSERT_EQ(part.id(), read);
      ++read;
    }
    writer.join();
    EXPECT_EQ(read, kMessages);
    const absl::Status status = stream.Finish();
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST_P(StreamTest, MessagesMayBeLongerThanTheWindow) {
  for (const CollectMethod method : kCollects) {
    ClientStream<Part, Part> stream = ((*stub_).*method)({});
    EXPECT_TRUE(stream.Write(PartOf(1, 5'000'000)));
    EXPECT_TRUE(stream.Write(PartOf(2, 7'000'000)));
    const absl::StatusOr<Part> reply = stream.Finish();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 2u);
    EXPECT_TRUE(reply->payload() == PartOf(2, 7'000'000).payload());
  }
}

TEST_P(StreamTest, RepliesMayBeLongerThanTheWindow) {
  for (const SendMethod method : kSends) {
    ServerStream<Part> stream = ((*stub_).*method)(RequestFor({5'000'000, 3'000'000}), {});
    Part part;
    ASSERT_TRUE(stream.Read(part));
    EXPECT_TRUE(part.payload() == PartOf(0, 5'000'000).payload());
    ASSERT_TRUE(stream.Read(part));
    EXPECT_TRUE(part.payload() == PartOf(1, 3'000'000).payload());
    EXPECT_TRUE(stream.Finish().ok());
  }
}

TEST_P(StreamTest, ClientsMayUseCallbacks) {
  for (const PingPongMethod method : kPingPongs) {
    BidiStream<Part, Part> stream = ((*stub_).*method)({});
    Later<bool> written;
    stream.Write(PartOf(7, 10), [&](bool ok) { written.Set(ok); });
    EXPECT_TRUE(written.Wait());
    Part part;
    Later<bool> read;
    stream.Read(part, [&](bool ok) { read.Set(ok); });
    EXPECT_TRUE(read.Wait());
    EXPECT_EQ(part.id(), 7u);
    stream.WritesDone();
    Later<bool> read_end;
    stream.Read(part, [&](bool ok) { read_end.Set(ok); });
    EXPECT_FALSE(read_end.Wait());
    Later<absl::Status> ended;
    stream.Finish([&](absl::Status status) { ended.Set(std::move(status)); });
    EXPECT_TRUE(ended.Wait().ok());
  }
  ClientStream<Part, Part> collect = stub_->Collect();
  collect.Write(PartOf(1, 3));
  Later<absl::StatusOr<Part>> reply;
  collect.Finish([&](absl::StatusOr<Part> answer) { reply.Set(std::move(answer)); });
  ASSERT_TRUE(reply.Wait().ok()) << reply.Wait().status();
  EXPECT_EQ(reply.Wait()->id(), 1u);
}

// ---------------------------------------------------------------- How they end

TEST_P(StreamTest, EndWithTheHandlersStatus) {
  for (const SendMethod method : kSends) {
    ServerStream<Part> stream = ((*stub_).*method)(RequestFor({10, 10}, 9, kOddText), {});
    Part part;
    EXPECT_TRUE(stream.Read(part));
    EXPECT_TRUE(stream.Read(part));
    EXPECT_FALSE(stream.Read(part));
    const absl::Status status = stream.Finish();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message(), kOddText);
  }
}

TEST_P(StreamTest, AServerMayEndACallWhileTheClientWrites) {
  Part bad = PartOf(3, 100);
  bad.set_code(3);
  bad.set_text("enough");
  for (const CollectMethod method : kCollects) {
    ClientStream<Part, Part> stream = ((*stub_).*method)({});
    EXPECT_TRUE(stream.Write(bad));
    while (stream.Write(PartOf(4, 100'000))) {
    }
    const absl::StatusOr<Part> reply = stream.Finish();
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(reply.status().message(), "enough");
  }
  for (const PingPongMethod method : kPingPongs) {
    BidiStream<Part, Part> stream = ((*stub_).*method)({});
    EXPECT_TRUE(stream.Write(bad));
    Part part;
    EXPECT_FALSE(stream.Read(part));
    EXPECT_EQ(stream.Finish().message(), "enough");
  }
}

TEST_P(StreamTest, WhatNobodyImplementsSaysSo) {
  BidiStream<Part, Part> stream = stub_->Missing();
  Part part;
  EXPECT_FALSE(stream.Read(part));
  const absl::Status status = stream.Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("Streams/Missing"));
  EXPECT_TRUE(stub_->Collect().Finish().ok());
}

TEST_P(StreamTest, FinishDropsWhatWasNotRead) {
  for (const SendMethod method : kSends) {
    ServerStream<Part> stream = ((*stub_).*method)(RequestFor(std::vector<uint32_t>(100, 100'000)), {});
    EXPECT_TRUE(stream.Finish().ok());
  }
}

TEST_P(StreamTest, CarriesMetadata) {
  ReplyMetadata metadata;
  CallOptions options{.reply_metadata = &metadata};
  options.metadata.Add("key", "value\xff");
  for (const auto& sizes : {std::vector<uint32_t>{}, std::vector<uint32_t>{1, 2}}) {
    for (const int code : {0, 5}) {
      metadata = {};
      ServerStream<Part> stream = stub_->Metadata(RequestFor(sizes, code), options);
      EXPECT_EQ(static_cast<int>(stream.Finish().code()), code);
      EXPECT_THAT(metadata.initial.Find("initial-key"), testing::Pointee(std::string("value\xff")));
      EXPECT_THAT(metadata.trailing.Find("trailing-key"), testing::Pointee(std::string("value\xff")));
    }
  }
}

// ---------------------------------------------------------------- Backpressure

TEST_P(StreamTest, AWriterWaitsForASlowReader) {
  ClientStream<Part, Part> stream = stub_->CollectWhenTold();
  ASSERT_TRUE(service_.WaitForBegun(1));
  const Part part = PartOf(1, 60'000);
  // The window, a message that waits, and not much more.
  size_t written = 0;
  while (stream.TryWrite(part) == WriteResult::kWritten) ++written;
  EXPECT_LE(written * 60'000, 1'200'000u);
  EXPECT_EQ(stream.TryWrite(part), WriteResult::kFull);
  // Others go on.
  EXPECT_TRUE(stub_->Collect().Finish().ok());
  service_.LetGo();
  EXPECT_TRUE(stream.Write(part));
  const absl::StatusOr<Part> reply = stream.Finish();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->id(), written + 1);
}

TEST_P(StreamTest, AReaderThatStopsHoldsUpItsOwnStreamOnly) {
  std::vector<ServerStream<Part>> stopped;
  stopped.reserve(3);
  for (int i = 0; i < 3; ++i) stopped.push_back(stub_->SendForever(RequestFor({50'000})));
  ASSERT_TRUE(service_.WaitForBegun(3));
  for (int i = 0; i < 20; ++i) {
    ServerStream<Part> stream = stub_->SendLater(RequestFor({100'000, 100'000}));
    Part part;
    EXPECT_TRUE(stream.Read(part));
    EXPECT_TRUE(stream.Read(part));
    EXPECT_TRUE(stream.Finish().ok());
  }
  // One window each, a message that waits, and not much more.
  EXPECT_LE(service_.sent() * 50'000, 3 * 1'300'000u);
  for (ServerStream<Part>& stream : stopped) {
    stream.Cancel();
    EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(service_.WaitForEnded(3));
}

// ---------------------------------------------------------------- Cancelling

TEST_P(StreamTest, CancelEndsACallOnBothSides) {
  ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000}));
  Part part;
  EXPECT_TRUE(stream.Read(part));
  stream.Cancel();
  const absl::Status status = stream.Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(status.message(), "the caller cancelled the call");
  EXPECT_TRUE(service_.WaitForEnded(1));
}

TEST_P(StreamTest, CancelBeforeTheFirstMessage) {
  BidiStream<Part, Part> stream = stub_->PingPong();
  stream.Cancel();
  EXPECT_FALSE(stream.Write(Part()));
  Part part;
  EXPECT_FALSE(stream.Read(part));
  EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kCancelled);
}

TEST_P(StreamTest, DestroyingAStreamCancelsIt) {
  {
    ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000}));
    ASSERT_TRUE(service_.WaitForBegun(1));
  }
  EXPECT_TRUE(service_.WaitForEnded(1));
  // Whether it has begun or not.
  { ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000})); }
  const absl::StatusOr<Part> after = stub_->Collect().Finish();
  EXPECT_TRUE(after.ok()) << after.status();
}

TEST_P(StreamTest, AWaitingReaderIsWokenByCancel) {
  BidiStream<Part, Part> stream = stub_->PingPong();
  std::thread reader([&stream] {
    Part part;
    EXPECT_FALSE(stream.Read(part));
  });
  stream.Cancel();
  reader.join();
  EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kCancelled);
}

TEST_P(StreamTest, ADeadlineEndsACallOnBothSides) {
  ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000}), {.timeout = absl::Milliseconds(30)});
  Part part;
  while (stream.Read(part)) {
  }
  EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kDeadlineExceeded);
  // It ends, unless it was never begun.
  EXPECT_TRUE(service_.sent() == 0 || service_.WaitForEnded(1));
}

// ---------------------------------------------------------------- Who goes away

TEST_P(StreamTest, ChannelsMayBeDestroyedBeforeTheirStreams) {
  ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000}));
  Part part;
  EXPECT_TRUE(stream.Read(part));
  BidiStream<Part, Part> other = stub_->PingPong();
  channel_.reset();
  while (stream.Read(part)) {
  }
  EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(other.Write(part));
  EXPECT_EQ(other.Finish().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(service_.WaitForEnded(1));
}

TEST_P(StreamTest, ServersMayBeDestroyedWithStreamsInFlight) {
  ServerStream<Part> stream = stub_->SendForever(RequestFor({1'000}));
  BidiStream<Part, Part> later = stub_->PingPongLater();
  Part part;
  EXPECT_TRUE(stream.Read(part));
  EXPECT_TRUE(later.Write(Part()));
  EXPECT_TRUE(later.Read(part));
  server_.reset();
  while (stream.Read(part)) {
  }
  EXPECT_FALSE(stream.Finish().ok());
  EXPECT_FALSE(later.Read(part));
  EXPECT_FALSE(later.Finish().ok());
}

TEST_P(StreamTest, BlockingOnAnEventLoopFails) {
  BidiStream<Part, Part> stream = stub_->PingPong();
  Later<bool> read;
  Part part;
  stream.Write(Part(), [&](bool) {
    Part second;
    stream.Read(second);
    read.Set(stream.Read(second));
  });
  EXPECT_FALSE(read.Wait());
  EXPECT_EQ(stream.Finish().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace ferry::test::e2e
