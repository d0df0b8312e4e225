// What every ByteStream does, whatever carries the bytes.
#include "ferry/transport/byte_stream.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/loop_group.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/stream_pair.h"

namespace ferry::transport {
namespace {

using test::FaultyStream;
using test::NewLoop;
using test::NewStreamPair;
using test::RunIn;
using test::RunUntil;
using test::StreamKind;
using test::StreamPair;
using State = IoResult::State;

IoResult ReadInto(ByteStream& stream, std::string* bytes, size_t size) {
  bytes->resize(size);
  const iovec part = {.iov_base = bytes->data(), .iov_len = size};
  IoResult result = stream.Read({&part, 1});
  bytes->resize(result.bytes);
  return result;
}

IoResult WriteFrom(ByteStream& stream, std::string bytes) {
  const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
  return stream.Write({&part, 1});
}

// Writes what it is given and reads what comes, as its stream lets it, believing IoResult::more.
class Pump final : public ByteStream::ReadyHandler {
 public:
  explicit Pump(ByteStream& stream) : stream_(stream) {}

  void Send(std::string bytes) {
    to_write_ = std::move(bytes);
    written_ = 0;
    Write();
  }

  bool done() const { return written_ == to_write_.size(); }
  const std::string& received() const { return received_; }
  bool ended() const { return ended_; }
  bool broken() const { return !error_.ok(); }
  const absl::Status& error() const { return error_; }

  // Runs after every OnReady.
  std::function<void()> after;

 private:
  void OnReady(bool readable, bool writable) override {
    if (writable) Write();
    if (readable) Read();
    if (after) after();
  }

  void Write() {
    while (!done()) {
      const size_t size = std::min<size_t>(to_write_.size() - written_, 100'000);
      const iovec part = {.iov_base = to_write_.data() + written_, .iov_len = size};
      const IoResult result = stream_.Write({&part, 1});
      if (result.state == State::kFailed) error_ = result.status;
      if (result.state != State::kDone) return;
      written_ += result.bytes;
      if (!result.more) return;
    }
  }

  void Read() {
    while (!ended_ && !broken()) {
      std::string bytes;
      const IoResult result = ReadInto(stream_, &bytes, 50'000);
      if (result.state == State::kEnd) ended_ = true;
      if (result.state == State::kFailed) error_ = result.status;
      received_ += bytes;
      if (result.state == State::kWouldBlock || !result.more) return;
    }
  }

  ByteStream& stream_;
  std::string to_write_;
  size_t written_ = 0;
  std::string received_;
  bool ended_ = false;
  absl::Status error_;
};

// Bytes that show when they come in another order.
std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

struct Variant {
  std::string name;
  StreamKind kind;
  // The most bytes that a Read and a Write move; 0 is any number.
  size_t slice;
};

class ByteStreamTest : public ::testing::TestWithParam<Variant> {
 protected:
  ~ByteStreamTest() override {
    RunIn(*loop_, [this] {
      a_.reset();
      b_.reset();
    });
  }

  static StreamPair NewPair() {
    StreamPair pair = NewStreamPair(GetParam().kind);
    if (GetParam().slice == 0) return pair;
    const FaultyStream::Faults faults = {.max_read = GetParam().slice, .max_write = GetParam().slice};
    return {std::make_unique<FaultyStream>(std::move(pair.first), faults),
            std::make_unique<FaultyStream>(std::move(pair.second), faults)};
  }

  // More than one Write takes, and not too many to go byte by byte.
  static std::string ManyBytes() { return Pattern(GetParam().slice == 0 ? 5'000'000 : 20'000); }

  void WatchBoth() {
    RunIn(*loop_, [this] {
      ASSERT_TRUE(a_->Watch(*loop_, pump_a_).ok());
      ASSERT_TRUE(b_->Watch(*loop_, pump_b_).ok());
    });
  }

  std::unique_ptr<EventLoop> loop_ = NewLoop();
  StreamPair pair_ = NewPair();
  std::unique_ptr<ByteStream> a_ = std::move(pair_.first);
  std::unique_ptr<ByteStream> b_ = std::move(pair_.second);
  Pump pump_a_{*a_};
  Pump pump_b_{*b_};
};

INSTANTIATE_TEST_SUITE_P(Streams, ByteStreamTest,
                         ::testing::Values(Variant{"Memory", StreamKind::kMemory, 0},
                                           Variant{"MemoryByteByByte", StreamKind::kMemory, 1},
                                           Variant{"Tcp", StreamKind::kTcp, 0},
                                           Variant{"TcpByteByByte", StreamKind::kTcp, 1},
                                           Variant{"Unix", StreamKind::kUnix, 0},
                                           Variant{"UnixByteByByte", StreamKind::kUnix, 1}),
                         [](const auto& info) { return info.param.name; });

TEST_P(ByteStreamTest, NamesItsPeer) {
  const std::string peer = a_->peer();
  switch (GetParam().kind) {
    case StreamKind::kMemory:
      EXPECT_EQ(peer, "in-process");
      break;
    case StreamKind::kTcp:
      EXPECT_TRUE(absl::StartsWith(peer, "127.0.0.1:")) << peer;
      EXPECT_NE(peer, b_->peer());
      break;
    case StreamKind::kUnix:
      EXPECT_EQ(peer, "unix:");
      break;
  }
}

TEST_P(ByteStreamTest, TellsTheHandlerSoonAfterWatch) {
  bool told = false;
  pump_a_.after = [&] { told = true; };
  RunIn(*loop_, [&] { ASSERT_TRUE(a_->Watch(*loop_, pump_a_).ok()); });
  RunUntil(*loop_, [&] { return told; });
}

TEST_P(ByteStreamTest, AReadWithoutBytesWouldBlock) {
  std::string bytes;
  EXPECT_EQ(ReadInto(*a_, &bytes, 10).state, State::kWouldBlock);
}

TEST_P(ByteStreamTest, CarriesBytesBeforeWatch) {
  EXPECT_EQ(WriteFrom(*a_, "x").state, State::kDone);
  std::string bytes;
  while (ReadInto(*b_, &bytes, 10).state == State::kWouldBlock) {
  }
  EXPECT_EQ(bytes, "x");
}

TEST_P(ByteStreamTest, MovesThePartsInOrder) {
  std::string first = "ab";
  std::string second = "c";
  std::string third = "def";
  std::vector<iovec> parts;
  for (std::string* s : {&first, &second, &third})
    parts.push_back({.iov_base = s->data(), .iov_len = s->size()});
  const IoResult written = a_->Write(parts);
  ASSERT_EQ(written.state, State::kDone);
  EXPECT_EQ(written.bytes, GetParam().slice == 0 ? 6u : 1u);

  WatchBoth();
  RunUntil(*loop_, [&] { return pump_b_.received().size() == written.bytes; });
  EXPECT_EQ(pump_b_.received(), std::string("abcdef").substr(0, written.bytes));
}

TEST_P(ByteStreamTest, ReadsIntoThePartsInOrder) {
  RunIn(*loop_, [&] { pump_a_.Send("abcdef"); });
  std::string all;
  while (all.size() < 6) {
    char first[2];
    char second[10];
    const iovec parts[] = {{.iov_base = first, .iov_len = 2}, {.iov_base = second, .iov_len = 10}};
    const IoResult result = b_->Read(parts);
    all += std::string(first, std::min<size_t>(result.bytes, 2));
    if (result.bytes > 2) all += std::string(second, result.bytes - 2);
  }
  EXPECT_EQ(all, "abcdef");
}

TEST_P(ByteStreamTest, CarriesManyBytesBothWaysAtOnce) {
  WatchBoth();
  const std::string bytes = ManyBytes();
  RunIn(*loop_, [&] {
    pump_a_.Send(bytes);
    pump_b_.Send(bytes);
  });
  RunUntil(*loop_, [&] {
    return pump_a_.received().size() == bytes.size() && pump_b_.received().size() == bytes.size();
  });
  EXPECT_TRUE(pump_a_.received() == bytes);
  EXPECT_TRUE(pump_b_.received() == bytes);
}

TEST_P(ByteStreamTest, AWriteWithoutRoomWouldBlockUntilThePeerReads) {
  if (GetParam().slice != 0) GTEST_SKIP() << "too many bytes to go one by one";
  RunIn(*loop_, [&] { ASSERT_TRUE(a_->Watch(*loop_, pump_a_).ok()); });
  const std::string bytes = Pattern(20'000'000);
  RunIn(*loop_, [&] { pump_a_.Send(bytes); });
  loop_->RunUntilIdle();
  EXPECT_FALSE(pump_a_.done());
  RunIn(*loop_, [&] { ASSERT_TRUE(b_->Watch(*loop_, pump_b_).ok()); });
  RunUntil(*loop_, [&] { return pump_b_.received().size() == bytes.size(); });
  EXPECT_TRUE(pump_b_.received() == bytes);
}

TEST_P(ByteStreamTest, TellsOfBytesThatComeLater) {
  WatchBoth();
  std::string sent;
  for (int i = 0; i < 100; ++i) {
    const std::string bytes = Pattern(100);
    sent += bytes;
    RunIn(*loop_, [&] { pump_a_.Send(bytes); });
    RunUntil(*loop_, [&] { return pump_b_.received() == sent; });
  }
}

TEST_P(ByteStreamTest, AFinishedPeerEndsReadingAfterTheLastByte) {
  WatchBoth();
  RunIn(*loop_, [&] { pump_a_.Send(Pattern(1000)); });
  RunUntil(*loop_, [&] { return pump_a_.done(); });
  RunIn(*loop_, [&] { a_->FinishWriting(); });
  RunUntil(*loop_, [&] { return pump_b_.ended(); });
  EXPECT_EQ(pump_b_.received(), Pattern(1000));
  EXPECT_TRUE(pump_b_.error().ok());
}

TEST_P(ByteStreamTest, TheOtherDirectionGoesOnAfterFinishWriting) {
  WatchBoth();
  RunIn(*loop_, [&] { a_->FinishWriting(); });
  RunUntil(*loop_, [&] { return pump_b_.ended(); });
  const std::string bytes = ManyBytes();
  RunIn(*loop_, [&] { pump_b_.Send(bytes); });
  RunUntil(*loop_, [&] { return pump_a_.received().size() == bytes.size(); });
  EXPECT_TRUE(pump_a_.received() == bytes);
  EXPECT_FALSE(pump_a_.ended());
}

TEST_P(ByteStreamTest, CloseEndsThePeersReading) {
  WatchBoth();
  RunIn(*loop_, [&] { a_->Close(); });
  RunUntil(*loop_, [&] { return pump_b_.ended() || pump_b_.broken(); });
}

TEST_P(ByteStreamTest, DestroyingClosesIt) {
  WatchBoth();
  RunIn(*loop_, [&] { a_.reset(); });
  RunUntil(*loop_, [&] { return pump_b_.ended() || pump_b_.broken(); });
}

TEST_P(ByteStreamTest, ReadsAndWritesAfterCloseFail) {
  a_->Close();
  a_->Close();
  std::string bytes;
  for (const IoResult& result : {ReadInto(*a_, &bytes, 10), WriteFrom(*a_, "x")}) {
    EXPECT_EQ(result.state, State::kFailed);
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(absl::StrContains(result.status.message(), "closed")) << result.status;
  }
}

TEST_P(ByteStreamTest, WritingToAPeerThatIsGoneFailsWithoutASignal) {
  b_.reset();
  IoResult result;
  // TCP learns it from the answer to the first bytes.
  while (result.state != State::kFailed) result = WriteFrom(*a_, "x");
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(result.status.message().empty());
}

// A peer that has closed looks like one that has finished writing, until it is written to.
TEST_P(ByteStreamTest, AWriteToAPeerThatIsGoneIsNoticedByTheReaderToo) {
  a_.reset();
  std::string bytes;
  RunUntil(*loop_, [&] { return ReadInto(*b_, &bytes, 10).state == State::kEnd; });
  if (WriteFrom(*b_, "x").state == State::kFailed) return;
  RunUntil(*loop_, [&] { return ReadInto(*b_, &bytes, 10).state == State::kFailed; });
}

// A peer that wrote no more before is known to be gone by its system's word alone, where there is one.
TEST_P(ByteStreamTest, APeerThatIsGoneAfterItFinishedWritingIsNoticed) {
  if (GetParam().kind != StreamKind::kUnix) GTEST_SKIP() << "nothing tells";
  WatchBoth();
  RunIn(*loop_, [&] { a_->FinishWriting(); });
  RunUntil(*loop_, [&] { return pump_b_.ended(); });
  EXPECT_FALSE(pump_b_.broken());
  bool noticed = false;
  pump_b_.after = [&] {
    std::string bytes;
    noticed = ReadInto(*b_, &bytes, 10).state == State::kFailed;
  };
  RunIn(*loop_, [&] { a_.reset(); });
  RunUntil(*loop_, [&] { return noticed; });
}

TEST_P(ByteStreamTest, TellsNothingAfterClose) {
  WatchBoth();
  RunIn(*loop_, [&] {
    pump_b_.Send("x");
    a_->Close();
    pump_a_.after = [] { FAIL(); };
  });
  loop_->RunUntilIdle();
}

TEST_P(ByteStreamTest, TheHandlerMayDestroyTheStream) {
  pump_a_.after = [&] { a_.reset(); };
  WatchBoth();
  RunUntil(*loop_, [&] { return a_ == nullptr && (pump_b_.ended() || pump_b_.broken()); });
}

TEST_P(ByteStreamTest, CarriesBytesBetweenTwoLoops) {
  const auto group = *LoopGroup::Create({.threads = 2});
  const std::string bytes = ManyBytes();
  struct Side {
    ByteStream& stream;
    Pump& pump;
    EventLoop& loop;
    absl::Notification done;
  } sides[] = {{*a_, pump_a_, group->loop(0), {}}, {*b_, pump_b_, group->loop(1), {}}};
  for (Side& side : sides) {
    side.pump.after = [&side, &bytes] {
      const bool whole = side.pump.received().size() == bytes.size() && side.pump.done();
      if (whole && !side.done.HasBeenNotified()) side.done.Notify();
    };
    side.loop.Post([&side, &bytes] {
      EXPECT_TRUE(side.stream.Watch(side.loop, side.pump).ok());
      side.pump.Send(bytes);
    });
  }
  for (Side& side : sides) side.done.WaitForNotification();
  for (Side& side : sides) {
    absl::Notification closed;
    side.loop.Post([&] {
      EXPECT_TRUE(side.pump.received() == bytes);
      side.stream.Close();
      closed.Notify();
    });
    closed.WaitForNotification();
  }
}

}  // namespace
}  // namespace ferry::transport
