#include "tests/testing/faulty_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/io_result.h"
#include "gtest/gtest.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/stream_pair.h"

namespace ferry::test {
namespace {

using transport::ByteStream;
using transport::EventLoop;
using transport::IoResult;
using State = IoResult::State;

// Counts what it is told.
class Counter final : public ByteStream::ReadyHandler {
 public:
  void OnReady(bool readable, bool writable) override { told_ += readable && writable ? 1 : 0; }
  int told() const { return told_; }

 private:
  int told_ = 0;
};

class FaultyStreamTest : public ::testing::Test {
 protected:
  IoResult Write(ByteStream& stream, std::string bytes) {
    const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
    return stream.Write({&part, 1});
  }

  IoResult Read(ByteStream& stream) {
    char bytes[100];
    const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    IoResult result = stream.Read({&part, 1});
    read_.append(bytes, result.bytes);
    return result;
  }

  StreamPair pair_ = NewStreamPair(StreamKind::kMemory);
  FaultyStream stream_{std::move(pair_.first), {}};
  ByteStream& peer_ = *pair_.second;
  std::string read_;
};

TEST_F(FaultyStreamTest, PassesEverythingOnWithoutFaults) {
  EXPECT_EQ(Write(stream_, "abc").bytes, 3u);
  EXPECT_EQ(Read(peer_).bytes, 3u);
  EXPECT_EQ(Write(peer_, "de").bytes, 2u);
  EXPECT_EQ(Read(stream_).bytes, 2u);
  EXPECT_EQ(read_, "abcde");
}

TEST_F(FaultyStreamTest, CutsReadsAndWrites) {
  stream_.SetFaults({.max_read = 2, .max_write = 1});
  EXPECT_EQ(Write(stream_, "abc").bytes, 1u);
  EXPECT_EQ(Write(peer_, "xyz").bytes, 3u);
  const IoResult first = Read(stream_);
  EXPECT_EQ(first.bytes, 2u);
  EXPECT_TRUE(first.more);
  EXPECT_EQ(Read(stream_).bytes, 1u);
  EXPECT_EQ(read_, "xyz");
}

TEST_F(FaultyStreamTest, StallsUntilToldOtherwise) {
  const std::unique_ptr<EventLoop> loop = NewLoop();
  Counter counter;
  RunIn(*loop, [&] { ASSERT_TRUE(stream_.Watch(*loop, counter).ok()); });
  const int told = counter.told();
  stream_.SetFaults({.stall_reads = true, .stall_writes = true});
  EXPECT_EQ(Write(peer_, "x").bytes, 1u);
  EXPECT_EQ(Read(stream_).state, State::kWouldBlock);
  EXPECT_EQ(Write(stream_, "y").state, State::kWouldBlock);
  RunIn(*loop, [&] {
    stream_.SetFaults({});
    EXPECT_GT(counter.told(), told);
    EXPECT_EQ(Read(stream_).bytes, 1u);
    EXPECT_EQ(Write(stream_, "y").bytes, 1u);
    stream_.Close();
  });
}

TEST_F(FaultyStreamTest, FailsAtTheByteGiven) {
  stream_.SetFaults({.fail_reads_after = 2, .fail_writes_after = 3});
  EXPECT_EQ(Write(stream_, "abcdef").bytes, 3u);
  const IoResult written = Write(stream_, "def");
  EXPECT_EQ(written.state, State::kFailed);
  EXPECT_EQ(written.status, absl::UnavailableError("a fault after 3 bytes written"));
  EXPECT_EQ(Write(peer_, "xyz").bytes, 3u);
  EXPECT_EQ(Read(stream_).bytes, 2u);
  EXPECT_EQ(Read(stream_).status, absl::UnavailableError("a fault after 2 bytes read"));
}

TEST_F(FaultyStreamTest, EndsAtTheByteGiven) {
  stream_.SetFaults({.end_reads_after = 2});
  EXPECT_EQ(Write(peer_, "xyz").bytes, 3u);
  EXPECT_EQ(Read(stream_).bytes, 2u);
  EXPECT_EQ(Read(stream_).state, State::kEnd);
  EXPECT_EQ(read_, "xy");
}

}  // namespace
}  // namespace ferry::test
