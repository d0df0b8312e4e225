#include "ferry/transport/connection.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/little_endian.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/memory_stream.h"
#include "ferry/transport/preface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/random.h"

namespace ferry::transport {
namespace {

using test::FaultyStream;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;
using testing::StartsWith;

std::string Preface() {
  std::string bytes(kPrefaceSize, '\0');
  EncodePreface(bytes.data());
  return bytes;
}

std::string MessageFrame(absl::string_view body, FrameType type = FrameType::kMessage) {
  std::string bytes(kFrameHeaderSize, '\0');
  EncodeFrameHeader({.length = static_cast<uint32_t>(body.size()), .type = type}, bytes.data());
  return absl::StrCat(bytes, body);
}

bool SendBytes(Connection& connection, absl::string_view bytes) {
  return connection.Send([&](Connection::Output& output) {
    std::copy(bytes.begin(), bytes.end(), output.Append(bytes.size()));
  });
}

bool SendMessage(Connection& connection, absl::string_view body) {
  return SendBytes(connection, MessageFrame(body));
}

// A Recorder writes down what a connection tells it, and answers malformed input as a session does.
//
// Belongs to the connection's loop.
class Recorder final : public Connection::Handler {
 public:
  void OnFrame(const Frame& frame) override {
    events.push_back(absl::StrCat("frame ", frame.message()));
    if (on_frame) on_frame(frame);
  }
  void OnEndOfRead() override { ++reads; }
  void OnEndOfInput() override {
    events.push_back("end of input");
    if (on_end_of_input) on_end_of_input();
  }
  void OnPreface() override { events.push_back("preface"); }
  void OnMalformedInput(const absl::Status& why, bool tell_peer) override {
    events.push_back(absl::StrCat("malformed ", why.ToString(), tell_peer ? ", to be told" : ""));
    if (tell_peer) SendMessage(*connection, "last words");
    connection->CloseAfterFlush(why);
  }
  void OnClosed(const absl::Status& why) override {
    events.push_back(absl::StrCat("closed ", why.ToString()));
    if (on_closed) on_closed();
  }

  Connection* connection = nullptr;
  std::vector<std::string> events;
  int reads = 0;
  std::function<void(const Frame&)> on_frame;
  std::function<void()> on_end_of_input;
  std::function<void()> on_closed;
};

// An InterruptedStream has something else happen between a write and the return from it, as another thread
// would.
class InterruptedStream final : public ByteStream {
 public:
  explicit InterruptedStream(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override {
    handler_ = &handler;
    return stream_->Watch(loop, handler);
  }
  // Of whom watches this.
  bool pollable() const { return handler_->pollable(); }
  IoResult Read(absl::Span<const iovec> parts) override { return stream_->Read(parts); }
  IoResult Write(absl::Span<const iovec> parts) override {
    EXPECT_FALSE(writing_) << "two writes at once";
    writing_ = true;
    IoResult result = stream_->Write(parts);
    if (on_write) std::exchange(on_write, nullptr)();
    writing_ = false;
    return result;
  }
  void FinishWriting() override {
    EXPECT_FALSE(writing_) << "FinishWriting during a write";
    stream_->FinishWriting();
  }
  void Close() override { stream_->Close(); }
  std::string peer() const override { return stream_->peer(); }

  std::function<void()> on_write;

 private:
  const std::unique_ptr<ByteStream> stream_;
  ReadyHandler* handler_ = nullptr;
  bool writing_ = false;
};

// A ConnectionFixture is a connection on a loop that this thread runs, joined by memory to a peer that is
// this test.
class ConnectionFixture : public testing::Test {
 protected:
  explicit ConnectionFixture(const FaultyStream::Faults& faults = {}) : faults_(faults) {
    absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
  }

  ~ConnectionFixture() override {
    if (connection_ == nullptr) return;
    OnLoop([this] { connection_->Close(absl::OkStatus()); });
    EXPECT_EQ(std::count_if(events().begin(), events().end(),
                            [](const std::string& e) { return e.starts_with("closed"); }),
              1)
        << "OnClosed is told once";
    EXPECT_THAT(events().back(), StartsWith("closed"));
  }

  void Start(const Connection::Options& options) {
    MemoryStreamPair pair = MemoryStreamPair::Create(capacity_);
    peer_ = std::move(pair.second);
    auto faulty = std::make_unique<FaultyStream>(std::move(pair.first), faults_);
    stream_ = faulty.get();
    auto interrupted = std::make_unique<InterruptedStream>(std::move(faulty));
    interrupted_ = interrupted.get();
    connection_ = Connection::Create(options, *loop_, recorder_, std::move(interrupted));
    recorder_.connection = connection_.get();
    OnLoop([this] { connection_->Start(); });
  }

  // Starts, and exchanges prefaces.
  void StartTalking(const Connection::Options& options = {}) {
    Start(options);
    PeerWrites(Preface());
    EXPECT_EQ(PeerReads(), Preface());
    EXPECT_THAT(events(), ElementsAre("preface"));
    recorder_.events.clear();
  }

  void OnLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }

  void Advance(absl::Duration time) {
    clock_.Advance(time);
    loop_->RunUntilIdle();
  }

  void SetFaults(const FaultyStream::Faults& faults) {
    OnLoop([&] { stream_->SetFaults(faults); });
  }

  // All of `bytes` at once.
  void PeerWrites(std::string bytes) {
    size_t written = 0;
    while (written < bytes.size()) {
      const iovec part = {.iov_base = bytes.data() + written, .iov_len = bytes.size() - written};
      const IoResult result = peer_->Write({&part, 1});
      if (result.state == IoResult::State::kFailed) break;
      ASSERT_TRUE(result.bytes > 0 || written == 0) << "the connection does not read";
      written += result.bytes;
      loop_->RunUntilIdle();
    }
  }

  // What has come up to now, at most `most` bytes.
  std::string PeerReads(size_t most = 100'000'000) {
    std::string bytes;
    std::string buffer(std::min<size_t>(most, 64 * 1024), '\0');
    while (bytes.size() < most) {
      const iovec part = {.iov_base = buffer.data(), .iov_len = std::min(buffer.size(), most - bytes.size())};
      const IoResult result = peer_->Read({&part, 1});
      peer_saw_end_ = result.state == IoResult::State::kEnd;
      if (result.state != IoResult::State::kDone) break;
      bytes.append(buffer.data(), result.bytes);
      loop_->RunUntilIdle();
    }
    return bytes;
  }

  bool PeerSeesEnd() { return PeerReads().empty() && peer_saw_end_; }

  void PeerFinishesWriting() {
    peer_->FinishWriting();
    loop_->RunUntilIdle();
  }

  void PeerCloses() {
    peer_->Close();
    loop_->RunUntilIdle();
  }

  const std::vector<std::string>& events() const { return recorder_.events; }
  uint64_t writes() const { return connection_->counters().writes.load(); }

  const FaultyStream::Faults faults_;
  size_t capacity_ = MemoryStreamPair::kDefaultCapacity;
  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_;
  Recorder recorder_;
  std::unique_ptr<ByteStream> peer_;
  bool peer_saw_end_ = false;
  FaultyStream* stream_ = nullptr;
  InterruptedStream* interrupted_ = nullptr;
  std::shared_ptr<Connection> connection_;
};

// How the stream cuts what goes through it, which must make no difference.
struct Cut {
  const char* name;
  FaultyStream::Faults faults;

  friend void PrintTo(const Cut& cut, std::ostream* out) { *out << cut.name; }
};

class ConnectionTest : public ConnectionFixture, public testing::WithParamInterface<Cut> {
 protected:
  ConnectionTest() : ConnectionFixture(GetParam().faults) {}
};

INSTANTIATE_TEST_SUITE_P(, ConnectionTest,
                         testing::Values(Cut{"Whole", {}}, Cut{"OneByteReads", {.max_read = 1}},
                                         Cut{"OneByteWrites", {.max_write = 1}},
                                         Cut{"OneByteBoth", {.max_read = 1, .max_write = 1}},
                                         Cut{"SevenBytesBoth", {.max_read = 7, .max_write = 7}}),
                         [](const testing::TestParamInfo<Cut>& info) {
                           return std::string(info.param.name);
                         });

// ---------------------------------------------------------------- The preface

TEST_P(ConnectionTest, AClientSendsItsPrefaceAtOnce) {  // [P2.2]
  Start({});
  EXPECT_EQ(PeerReads(), Preface());
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(Preface());
  EXPECT_THAT(events(), ElementsAre("preface"));
}

TEST_P(ConnectionTest, AServerSendsNothingBeforeThePeersPreface) {  // [P2.2]
  Start({.wait_for_preface = true});
  PeerWrites(Preface().substr(0, kPrefaceSize - 1));
  EXPECT_EQ(PeerReads(), "");
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(Preface().substr(kPrefaceSize - 1));
  EXPECT_EQ(PeerReads(), Preface());
  EXPECT_THAT(events(), ElementsAre("preface"));
}

TEST_P(ConnectionTest, TakesFramesBehindThePrefaceInTheSameRead) {
  Start({.wait_for_preface = true});
  PeerWrites(Preface() + MessageFrame("one") + MessageFrame("two"));
  EXPECT_THAT(events(), ElementsAre("preface", "frame one", "frame two"));
}

TEST_P(ConnectionTest, EndsAPeerOfAnotherKind) {  // [P2.3] [P2.4]
  struct Case {
    const char* name;
    std::string bytes;
    const char* error;
    std::string server_answers;
  };
  const Case kCases[] = {
      {"HTTP", "GET / HTTP/1.1\r\n\r\n", "INTERNAL: peer speaks HTTP, not Ferry", ""},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
       "INTERNAL: peer speaks TLS", ""},
      {"something else", "SSH-2.0-OpenSSH_9.2\r\n", "INTERNAL: peer does not speak Ferry", ""},
      {"a wrong last byte", Preface().substr(0, 7) + "\r", "INTERNAL: peer does not speak Ferry", ""},
      {"another version",
       std::string("\xf5"
                   "FRY\x02\x00\x00\n",
                   8),
       "UNIMPLEMENTED: peer speaks major version 2", Preface()},
  };
  for (const bool server : {true, false}) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(absl::StrCat(server ? "server, " : "client, ", c.name));
      recorder_.events.clear();
      Start({.wait_for_preface = server});
      PeerWrites(c.bytes);
      EXPECT_THAT(events(), ElementsAre(AllOf(StartsWith(absl::StrCat("malformed ", c.error)),
                                              testing::Not(EndsWith("to be told")))));
      EXPECT_EQ(PeerReads(), server ? c.server_answers : Preface());
      EXPECT_TRUE(PeerSeesEnd());
      PeerCloses();
      EXPECT_THAT(events().back(), StartsWith(absl::StrCat("closed ", c.error)));
    }
  }
}

TEST_P(ConnectionTest, NoticesAWrongPrefaceAtItsFirstWrongByte) {  // [P2.3]
  Start({.wait_for_preface = true});
  PeerWrites(
      "\xf5"
      "FX");
  EXPECT_THAT(events(), ElementsAre(StartsWith("malformed INTERNAL: peer does not speak Ferry")));
}

TEST_P(ConnectionTest, EndsWhenTheInputEndsInsideThePreface) {  // [P13.1]
  Start({.wait_for_preface = true});
  PeerWrites(Preface().substr(0, 3));
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("malformed INTERNAL: connection ended after 3 of the preface's 8 bytes",
                                    "closed INTERNAL: connection ended after 3 of the preface's 8 bytes"));
  EXPECT_EQ(PeerReads(), "");
}

TEST_P(ConnectionTest, EndsAPeerThatDoesNotSendItsPreface) {  // appendix A
  Start({.wait_for_preface = true, .preface_timeout = absl::Seconds(10)});
  PeerWrites(Preface().substr(0, 3));
  Advance(absl::Seconds(9));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Seconds(1));
  EXPECT_THAT(
      events(),
      ElementsAre("malformed DEADLINE_EXCEEDED: preface is not whole after 10s, 3 of 8 bytes are there"));
  EXPECT_EQ(PeerReads(), "");
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceThatHasSentItsPreface) {
  StartTalking({.preface_timeout = absl::Seconds(10)});
  Advance(absl::Hours(24));
  EXPECT_THAT(events(), IsEmpty());
}

// ---------------------------------------------------------------- Input

TEST_P(ConnectionTest, ShowsEveryFrameOnceAndInOrder) {
  StartTalking();
  std::string bytes;
  std::vector<std::string> expected;
  for (int i = 0; i < 200; ++i) {
    const std::string body = absl::StrCat(i, std::string(static_cast<size_t>(i), '.'));
    bytes += MessageFrame(body);
    expected.push_back("frame " + body);
  }
  PeerWrites(bytes);
  EXPECT_EQ(events(), expected);
  EXPECT_EQ(connection_->counters().bytes_read.load(), kPrefaceSize + bytes.size());
}

TEST_P(ConnectionTest, ShowsAFrameThatCameInTwoPieces) {
  StartTalking();
  const std::string bytes = MessageFrame("in two pieces") + MessageFrame("next");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    recorder_.events.clear();
    PeerWrites(bytes.substr(0, cut));
    PeerWrites(bytes.substr(cut));
    EXPECT_THAT(events(), ElementsAre("frame in two pieces", "frame next"));
  }
}

TEST_P(ConnectionTest, DoesNotShowIgnorableFrames) {  // [P3.5]
  StartTalking();
  PeerWrites(MessageFrame("a") + MessageFrame("from the future", FrameType{0x80}) + MessageFrame("b") +
             MessageFrame("", FrameType{0xff}));
  EXPECT_THAT(events(), ElementsAre("frame a", "frame b"));
}

TEST_P(ConnectionTest, HandlesNothingAfterAMalformedFrame) {  // [P14.1]
  StartTalking();
  PeerWrites(MessageFrame("good") + MessageFrame("bad", FrameType{77}) + MessageFrame("late"));
  PeerWrites(MessageFrame("later"));
  EXPECT_THAT(events(), ElementsAre("frame good", AllOf(StartsWith("malformed INTERNAL: frame type is 77"),
                                                        EndsWith("to be told"))));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, TellsOfTheEndOfInputAtAFramesBoundary) {  // [P13.1]
  StartTalking();
  PeerWrites(MessageFrame("last"));
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("frame last", "end of input"));
  EXPECT_TRUE(SendMessage(*connection_, "answer"));
  EXPECT_EQ(PeerReads(), MessageFrame("answer"));
}

TEST_P(ConnectionTest, EndsWhenTheInputEndsInsideAFrame) {  // [P13.1]
  const std::string frame = MessageFrame("0123456789ab");
  for (const size_t cut : {1, 11, 12, 23}) {
    SCOPED_TRACE(cut);
    recorder_.events.clear();
    StartTalking();
    PeerWrites(frame.substr(0, cut));
    PeerFinishesWriting();
    const std::string why = absl::StrCat("INTERNAL: connection ended inside a frame, after ", cut, " of ",
                                         cut < 12 ? "12 bytes of its header" : "24 bytes");
    EXPECT_THAT(events(), ElementsAre(absl::StrCat("malformed ", why, ", to be told"), "closed " + why));
    EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  }
}

TEST_P(ConnectionTest, EndsAPeerThatSendsAFrameTooSlowly) {  // appendix A
  StartTalking({.frame_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame(std::string(100, 'x'));
  for (size_t i = 0; i < 30; ++i) {
    PeerWrites(frame.substr(i, 1));
    EXPECT_THAT(events(), IsEmpty());
    Advance(absl::Seconds(1));
  }
  EXPECT_THAT(events(), ElementsAre("malformed DEADLINE_EXCEEDED: frame is not whole after 30s, 30 of 112 "
                                    "bytes are there, to be told"));
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceWhoseFramesCompleteInTime) {
  StartTalking({.frame_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame("slow");
  for (int i = 0; i < 5; ++i) {
    PeerWrites(frame.substr(0, 1));
    Advance(absl::Seconds(29));
    // The end of one frame and the beginning of another, whose time begins now.
    PeerWrites(frame.substr(1) + frame.substr(0, 1));
    Advance(absl::Seconds(29));
    PeerWrites(frame.substr(1));
    Advance(absl::Hours(1));
  }
  EXPECT_EQ(events().size(), 10u);
  EXPECT_THAT(events(), testing::Each(std::string("frame slow")));
}

TEST_P(ConnectionTest, AReadErrorClosesIt) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_reads_after = kPrefaceSize + 20;
  SetFaults(faults);
  PeerWrites(MessageFrame("whole") + MessageFrame("broken"));
  EXPECT_THAT(events(), ElementsAre("frame whole", "closed UNAVAILABLE: a fault after 28 bytes read"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
}

// ---------------------------------------------------------------- Output

TEST_P(ConnectionTest, SendsFramesAndReferredBytesInOrder) {
  StartTalking();
  const std::string large(10'000, 'x');
  OnLoop([&] {
    connection_->Send([&](Connection::Output& output) {
      const std::string header = MessageFrame(large).substr(0, kFrameHeaderSize);
      std::copy(header.begin(), header.end(), output.Append(kFrameHeaderSize));
    });
    const Block block = connection_->AllocateOutput(large.size());
    std::copy(large.begin(), large.end(), block.data());
    connection_->Send([&](Connection::Output& output) {
      output.Append(block, {block.data(), large.size()});
    });
    SendMessage(*connection_, "behind");
  });
  EXPECT_EQ(PeerReads(), MessageFrame(large) + MessageFrame("behind"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_P(ConnectionTest, AnotherThreadWritesWithoutTheLoop) {
  StartTalking();
  // This thread is the loop's only while it runs the loop.
  EXPECT_TRUE(SendMessage(*connection_, "at once"));
  const std::string expected = MessageFrame("at once");
  std::string bytes(expected.size(), '\0');
  const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
  EXPECT_EQ(peer_->Read({&part, 1}).bytes, expected.size());
  EXPECT_EQ(bytes, expected);
}

TEST_P(ConnectionTest, GoesOnWhereAShortWriteEnded) {
  capacity_ = 10;
  StartTalking();
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string body(static_cast<size_t>(i), static_cast<char>('a' + i % 26));
    SendMessage(*connection_, body);
    expected += MessageFrame(body);
  }
  EXPECT_GT(connection_->waiting_output(), 0u);
  EXPECT_EQ(PeerReads(), expected);
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_EQ(connection_->counters().bytes_written.load(), kPrefaceSize + expected.size());
}

TEST_P(ConnectionTest, EndsAPeerThatTakesNothing) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  SendMessage(*connection_, std::string(88, 'x'));
  loop_->RunUntilIdle();
  Advance(absl::Seconds(29));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Seconds(1));
  EXPECT_THAT(events(),
              ElementsAre("closed DEADLINE_EXCEEDED: the peer took none of 84 waiting bytes for 30s"));
}

TEST_P(ConnectionTest, LeavesAPeerInPeaceThatTakesAByteNowAndThen) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  const std::string frame = MessageFrame(std::string(50, 'x'));
  OnLoop([&] { SendBytes(*connection_, frame); });
  std::string received;
  while (connection_->waiting_output() > 0) {
    Advance(absl::Seconds(29));
    received += PeerReads(1);
    ASSERT_THAT(events(), IsEmpty());
  }
  Advance(absl::Hours(1));
  EXPECT_EQ(received + PeerReads(), frame);
  EXPECT_THAT(events(), IsEmpty());
}

TEST_P(ConnectionTest, AWriteErrorClosesIt) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_writes_after = kPrefaceSize + 5;
  SetFaults(faults);
  OnLoop([&] { SendMessage(*connection_, "broken"); });
  EXPECT_THAT(events(), ElementsAre("closed UNAVAILABLE: a fault after 13 bytes written"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_P(ConnectionTest, AWriteErrorOfAnotherThreadClosesItOnTheLoop) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_writes_after = kPrefaceSize + 5;
  SetFaults(faults);
  SendMessage(*connection_, "broken");
  EXPECT_THAT(events(), IsEmpty());
  loop_->RunUntilIdle();
  EXPECT_THAT(events(), ElementsAre("closed UNAVAILABLE: a fault after 13 bytes written"));
}

// ---------------------------------------------------------------- Reading waits for writing

TEST_P(ConnectionTest, StopsReadingWhileMuchOutputWaits) {
  capacity_ = 64;
  StartTalking({.max_waiting_output = 1000});
  SendMessage(*connection_, std::string(2000, 'x'));
  PeerWrites(MessageFrame("waits"));
  EXPECT_THAT(events(), IsEmpty());
  EXPECT_EQ(PeerReads(500).size(), 500u);
  EXPECT_THAT(events(), IsEmpty());
  EXPECT_EQ(PeerReads().size(), 1512u);
  EXPECT_THAT(events(), ElementsAre("frame waits"));
}

TEST_P(ConnectionTest, StopsReadingInTheMiddleOfWhatItAnswers) {
  capacity_ = 64;
  StartTalking({.max_waiting_output = 1000});
  recorder_.on_frame = [this](const Frame&) { SendMessage(*connection_, std::string(600, 'x')); };
  const std::string request = MessageFrame("1234");
  for (int i = 0; i < 4; ++i) {
    const iovec part = {.iov_base = const_cast<char*>(request.data()), .iov_len = request.size()};
    ASSERT_EQ(peer_->Write({&part, 1}).bytes, request.size());
  }
  loop_->RunUntilIdle();
  // What was read in one piece is answered, and at most that.
  if (faults_.max_read <= request.size()) {
    EXPECT_EQ(events().size(), 2u);
  }
  EXPECT_EQ(PeerReads().size(), 4 * 612u);
  EXPECT_EQ(events().size(), 4u);
}

TEST_P(ConnectionTest, DoesNotCountItsOwnPauseAgainstThePeersFrame) {
  capacity_ = 64;
  StartTalking(
      {.frame_timeout = absl::Seconds(30), .write_timeout = absl::Seconds(30), .max_waiting_output = 1000});
  PeerWrites(MessageFrame("whole").substr(0, 14));
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(MessageFrame("whole").substr(14));
  for (int i = 0; i < 10; ++i) {
    Advance(absl::Seconds(20));
    PeerReads(100);
    ASSERT_THAT(events(), IsEmpty());
  }
  PeerReads();
  EXPECT_THAT(events(), ElementsAre("frame whole"));
}

TEST_P(ConnectionTest, CountsThePeersTimeAgainAfterAPause) {
  capacity_ = 64;
  StartTalking({.frame_timeout = absl::Seconds(30), .max_waiting_output = 1000});
  PeerWrites(MessageFrame("never whole").substr(0, 14));
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(MessageFrame("never whole").substr(14, 2));
  PeerReads();
  Advance(absl::Seconds(30));
  EXPECT_THAT(events(),
              ElementsAre(StartsWith("malformed DEADLINE_EXCEEDED: frame is not whole after 30s, 16 of 23")));
}

TEST_P(ConnectionTest, TakesThePeersPrefaceHoweverMuchOutputWaits) {
  capacity_ = 64;
  Start({.preface_timeout = absl::Seconds(10), .max_waiting_output = 1000});
  SendMessage(*connection_, std::string(3000, 'x'));
  PeerWrites(Preface());
  Advance(absl::Seconds(10));
  EXPECT_THAT(events(), ElementsAre("preface"));
}

// ---------------------------------------------------------------- The end

TEST_P(ConnectionTest, FinishesWritingBehindWaitingOutput) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, "0123456789");
  connection_->FinishWriting();
  loop_->RunUntilIdle();
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(PeerReads(), MessageFrame("0123456789"));
  EXPECT_TRUE(PeerSeesEnd());
  PeerWrites(MessageFrame("still read"));
  EXPECT_THAT(events(), ElementsAre("frame still read"));
}

TEST_P(ConnectionTest, FinishesWritingAtOnceWhenNothingWaits) {
  StartTalking();
  connection_->FinishWriting();
  connection_->FinishWriting();
  loop_->RunUntilIdle();
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, CloseDoesNotWaitForOutput) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, std::string(1000, 'x'));
  bool told = false;
  OnLoop([&] {
    connection_->Close(absl::CancelledError("enough"));
    told = !events().empty();
    connection_->Close(absl::CancelledError("once more"));
    connection_->CloseAfterFlush(absl::CancelledError("and again"));
  });
  EXPECT_TRUE(told);
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
  EXPECT_FALSE(SendMessage(*connection_, "too late"));
  EXPECT_EQ(connection_->waiting_output(), 0u);
  PeerReads();
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_P(ConnectionTest, MayBeClosedInsideOnFrame) {
  StartTalking();
  recorder_.on_frame = [this](const Frame&) { connection_->Close(absl::CancelledError("enough")); };
  PeerWrites(MessageFrame("one") + MessageFrame("two"));
  EXPECT_THAT(events(), ElementsAre("frame one", "closed CANCELLED: enough"));
  Advance(absl::Hours(1));
}

TEST_P(ConnectionTest, MayBeClosedInsideOnEndOfInput) {
  StartTalking();
  recorder_.on_end_of_input = [this] { connection_->Close(absl::OkStatus()); };
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("end of input", "closed OK"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsForThePeerToReadTheLastWords) {
  capacity_ = 16;
  StartTalking();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  EXPECT_THAT(events(), IsEmpty());
  PeerWrites(MessageFrame("thrown away"));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_TRUE(PeerSeesEnd());
  EXPECT_THAT(events(), IsEmpty());
  PeerFinishesWriting();
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsForOutputWhenThePeerHasFinishedFirst) {
  capacity_ = 16;
  StartTalking();
  PeerFinishesWriting();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::OkStatus());
  });
  EXPECT_THAT(events(), ElementsAre("end of input"));
  EXPECT_EQ(PeerReads(), MessageFrame("last words"));
  EXPECT_THAT(events(), ElementsAre("end of input", "closed OK"));
}

TEST_P(ConnectionTest, CloseAfterFlushWaitsNoLongerThanASecondForThePeer) {
  StartTalking();
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  Advance(absl::Milliseconds(999));
  EXPECT_THAT(events(), IsEmpty());
  Advance(absl::Milliseconds(1));
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, APeerThatGoesOnSendingDoesNotKeepItOpen) {
  StartTalking();
  OnLoop([this] { connection_->CloseAfterFlush(absl::CancelledError("enough")); });
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(events(), IsEmpty());
    PeerWrites(MessageFrame("and another thing").substr(0, 20));
    Advance(absl::Milliseconds(100));
  }
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, CloseAfterFlushAlsoClosesWhatHasFinishedWritingBefore) {
  struct Case {
    const char* name;
    bool peer_finishes;
  };
  for (const Case& c : {Case{"the peer has finished too", true}, Case{"the peer says nothing", false}}) {
    SCOPED_TRACE(c.name);
    recorder_.events.clear();
    StartTalking();
    connection_->FinishWriting();
    loop_->RunUntilIdle();
    if (c.peer_finishes) PeerFinishesWriting();
    recorder_.events.clear();
    OnLoop([this] { connection_->CloseAfterFlush(absl::CancelledError("enough")); });
    if (!c.peer_finishes) Advance(absl::Seconds(1));
    EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
  }
}

TEST_P(ConnectionTest, WhatFailsWhileClosingIsNotTheReason) {
  StartTalking();
  FaultyStream::Faults faults = faults_;
  faults.fail_reads_after = kPrefaceSize;
  OnLoop([&] {
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
    stream_->SetFaults(faults);
  });
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

TEST_P(ConnectionTest, APeerThatTakesNothingDoesNotKeepItOpen) {
  capacity_ = 16;
  StartTalking({.write_timeout = absl::Seconds(30)});
  OnLoop([this] {
    SendMessage(*connection_, "last words");
    connection_->CloseAfterFlush(absl::CancelledError("enough"));
  });
  Advance(absl::Seconds(30));
  EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
}

// ---------------------------------------------------------------- Writes, one by one

using ConnectionWritesTest = ConnectionFixture;

TEST_F(ConnectionWritesTest, AnswersToOneReadLeaveInOneWrite) {
  StartTalking();
  recorder_.on_frame = [this](const Frame& frame) { SendMessage(*connection_, frame.message()); };
  std::string frames;
  for (int i = 0; i < 100; ++i) frames += MessageFrame(absl::StrCat(i));
  const uint64_t before = writes();
  PeerWrites(frames);
  EXPECT_EQ(writes() - before, 1u);
  EXPECT_EQ(recorder_.reads, 2);
  EXPECT_EQ(PeerReads(), frames);
}

TEST_F(ConnectionWritesTest, SendsOfATaskLeaveInOneWrite) {
  StartTalking();
  const uint64_t before = writes();
  OnLoop([this] {
    for (int i = 0; i < 100; ++i) SendMessage(*connection_, "a");
  });
  EXPECT_EQ(writes() - before, 1u);
}

TEST_F(ConnectionWritesTest, SendsOfAnotherThreadLeaveWithTheBatchInWhichTheyCome) {
  StartTalking();
  recorder_.on_frame = [this](const Frame& frame) {
    std::thread([&] { SendMessage(*connection_, "from another thread"); }).join();
    SendMessage(*connection_, frame.message());
  };
  const uint64_t before = writes();
  PeerWrites(MessageFrame("one") + MessageFrame("two"));
  EXPECT_EQ(writes() - before, 1u);
  EXPECT_EQ(PeerReads(), MessageFrame("from another thread") + MessageFrame("one") +
                             MessageFrame("from another thread") + MessageFrame("two"));
}

TEST_F(ConnectionWritesTest, WhatIsSentDuringAWriteLeavesWithTheNext) {
  StartTalking();
  const uint64_t before = writes();
  interrupted_->on_write = [this] {
    SendMessage(*connection_, "two");
    SendMessage(*connection_, "three");
  };
  SendMessage(*connection_, "one");
  EXPECT_EQ(writes() - before, 2u);
  EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two") + MessageFrame("three"));
}

TEST_F(ConnectionWritesTest, AWriteUnderWayDoesNotHoldUpClosing) {
  StartTalking();
  interrupted_->on_write = [this] {
    OnLoop([this] { connection_->Close(absl::CancelledError("enough")); });
    EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
    // The loop need not run again.
    EXPECT_EQ(PeerReads(), MessageFrame("one"));
    EXPECT_TRUE(PeerSeesEnd());
  };
  SendMessage(*connection_, "one");
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_F(ConnectionWritesTest, WritingIsFinishedOnlyWhenNobodyWrites) {
  StartTalking();
  interrupted_->on_write = [this] {
    connection_->FinishWriting();
    loop_->RunUntilIdle();
  };
  SendMessage(*connection_, "one");
  loop_->RunUntilIdle();
  EXPECT_EQ(PeerReads(), MessageFrame("one"));
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_F(ConnectionWritesTest, IsNotHeldUpByRoomThatCameDuringTheWriteThatFoundNone) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, "0123");
  EXPECT_EQ(connection_->waiting_output(), 0u);
  std::string received;
  interrupted_->on_write = [&] { received = PeerReads(); };
  SendMessage(*connection_, "4567");
  loop_->RunUntilIdle();
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_EQ(received + PeerReads(), MessageFrame("0123") + MessageFrame("4567"));
}

TEST_F(ConnectionWritesTest, OneBusyPeerDoesNotKeepTheLoop) {
  FaultyStream::Faults faults;
  faults.max_read = 1;
  StartTalking();
  int reads_before_task = 0;
  recorder_.on_frame = [&](const Frame&) {
    if (events().size() == 1) loop_->Post([&] { reads_before_task = recorder_.reads; });
  };
  OnLoop([&] { stream_->SetFaults(faults); });
  recorder_.reads = 0;
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += MessageFrame("");
  PeerWrites(bytes);
  EXPECT_EQ(events().size(), 100u);
  EXPECT_LE(reads_before_task, 32);
}

// ---------------------------------------------------------------- What a batch gathers

class ConnectionBatchTest : public ConnectionFixture {
 protected:
  // Sends a frame on another thread, and waits for that thread.
  bool SendElsewhere(absl::string_view body) {
    bool sent = false;
    std::thread([&] { sent = SendMessage(*connection_, body); }).join();
    return sent;
  }

  // Has the connection do `task` in the middle of a batch.
  void InBatch(std::function<void()> task) {
    recorder_.on_frame = [task = std::move(task)](const Frame&) { task(); };
    PeerWrites(MessageFrame("go"));
    recorder_.on_frame = nullptr;
  }
};

TEST_F(ConnectionBatchTest, WhatHappensBeforeIsSentBefore) {
  // Who sends: the loop (l), another thread (t), and output that leaves in between (!).
  for (const std::string order : {"l", "t", "lt", "tl", "ltl", "tlt", "lltt", "ttll", "ltltlt", "l!t", "t!l",
                                  "lt!lt", "tl!tl!lt", "!", "!l!t!"}) {
    SCOPED_TRACE(order);
    StartTalking();
    std::string expected;
    InBatch([&] {
      for (size_t i = 0; i < order.size(); ++i) {
        const std::string body = absl::StrCat(order.substr(0, i + 1));
        if (order[i] == '!') {
          connection_->FlushNow();
          continue;
        }
        EXPECT_TRUE(order[i] == 'l' ? SendMessage(*connection_, body) : SendElsewhere(body));
        expected += MessageFrame(body);
      }
    });
    EXPECT_EQ(PeerReads(), expected);
    // And the next batch begins anew.
    InBatch([&] { SendMessage(*connection_, "next"); });
    EXPECT_EQ(PeerReads(), MessageFrame("next"));
    OnLoop([this] { connection_->Close(absl::OkStatus()); });
    recorder_.events.clear();
  }
  StartTalking();
}

TEST_F(ConnectionBatchTest, ComesBehindWhatTheStreamHasNotTakenYet) {
  StartTalking();
  SetFaults({.stall_writes = true});
  std::string expected;
  for (const char* body : {"before", "and before"}) {
    SendMessage(*connection_, body);
    expected += MessageFrame(body);
  }
  for (int batch = 0; batch < 3; ++batch) {
    InBatch([&] {
      SendMessage(*connection_, "loop");
      SendElsewhere("thread");
      SendMessage(*connection_, "loop again");
    });
    for (const char* body : {"loop", "thread", "loop again"}) expected += MessageFrame(body);
    EXPECT_EQ(connection_->waiting_output(), expected.size());
  }
  EXPECT_EQ(PeerReads(), "");
  SetFaults({});
  loop_->RunUntilIdle();
  EXPECT_EQ(PeerReads(), expected);
}

TEST_F(ConnectionBatchTest, CountsAllThatWaits) {
  StartTalking();
  const size_t frame = MessageFrame("12345").size();
  InBatch([&] {
    EXPECT_EQ(connection_->waiting_output(), 0u);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), frame);
    SendElsewhere("12345");
    EXPECT_EQ(connection_->waiting_output(), 2 * frame);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), 3 * frame);
    connection_->FlushNow();
    EXPECT_EQ(connection_->waiting_output(), 0u);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), frame);
  });
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_F(ConnectionBatchTest, IsNotPolledFromAWriteOfAnotherThreadUntilThereIsNews) {
  StartTalking();
  EXPECT_TRUE(interrupted_->pollable());
  OnLoop([this] { SendMessage(*connection_, "loop"); });
  EXPECT_TRUE(interrupted_->pollable());
  SendElsewhere("thread");
  EXPECT_FALSE(interrupted_->pollable());
  PeerWrites(MessageFrame("news"));
  EXPECT_TRUE(interrupted_->pollable());
}

TEST_F(ConnectionBatchTest, MuchOutputDoesNotWaitForItsEnd) {
  capacity_ = 1024 * 1024;
  StartTalking();
  // Four answers are more than 64 KiB.
  const std::string answer(16 * 1024, 'x');
  std::vector<uint64_t> writes_before;
  const uint64_t start = writes();
  recorder_.on_frame = [&](const Frame&) {
    writes_before.push_back(writes() - start);
    SendMessage(*connection_, answer);
  };
  std::string input;
  for (int i = 0; i < 10; ++i) input += MessageFrame("");
  PeerWrites(input);
  EXPECT_THAT(writes_before, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 2, 2));
  EXPECT_EQ(writes() - start, 3u);
  EXPECT_EQ(PeerReads().size(), 10 * MessageFrame(answer).size());
}

TEST_F(ConnectionBatchTest, MayFinishWritingInItsMiddle) {
  for (const bool elsewhere : {false, true}) {
    SCOPED_TRACE(elsewhere);
    StartTalking();
    InBatch([&] {
      SendMessage(*connection_, "one");
      SendElsewhere("two");
      SendMessage(*connection_, "three");
      if (elsewhere) {
        std::thread([&] { connection_->FinishWriting(); }).join();
      } else {
        connection_->FinishWriting();
      }
      EXPECT_FALSE(SendMessage(*connection_, "too late"));
      EXPECT_FALSE(SendElsewhere("too late"));
    });
    EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two") + MessageFrame("three"));
    EXPECT_TRUE(PeerSeesEnd());
    OnLoop([this] { connection_->Close(absl::OkStatus()); });
    recorder_.events.clear();
  }
  StartTalking();
}

TEST_F(ConnectionBatchTest, CloseDropsWhatItHasGathered) {
  StartTalking();
  InBatch([&] {
    SendMessage(*connection_, "one");
    SendElsewhere("two");
    connection_->Close(absl::CancelledError("enough"));
    EXPECT_EQ(connection_->waiting_output(), 0u);
    EXPECT_FALSE(SendMessage(*connection_, "three"));
  });
  EXPECT_EQ(PeerReads(), "");
  EXPECT_TRUE(PeerSeesEnd());
  EXPECT_THAT(events().back(), "closed CANCELLED: enough");
}

TEST_F(ConnectionBatchTest, FlushNowSavesFromClose) {
  StartTalking();
  InBatch([&] {
    SendMessage(*connection_, "one");
    SendElsewhere("two");
    connection_->FlushNow();
    connection_->Close(absl::CancelledError("enough"));
  });
  EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two"));
}

TEST_F(ConnectionBatchTest, AWriteErrorOfAnotherThreadDropsWhatItHasGathered) {
  StartTalking();
  SetFaults({.fail_writes_after = 0});
  absl::Notification writing, appended;
  interrupted_->on_write = [&] {
    writing.Notify();
    appended.WaitForNotification();
  };
  std::thread other([&] { EXPECT_TRUE(SendMessage(*connection_, "fails")); });
  writing.WaitForNotification();
  InBatch([&] {
    EXPECT_TRUE(SendMessage(*connection_, "one"));
    appended.Notify();
    other.join();
    EXPECT_FALSE(SendMessage(*connection_, "two"));
    EXPECT_FALSE(SendElsewhere("three"));
  });
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_THAT(events(), ElementsAre("frame go", StartsWith("closed UNAVAILABLE")));
  EXPECT_EQ(PeerReads(), "");
}

// ---------------------------------------------------------------- Threads

// A Receiver counts the frames of each sender, each of which begins with its sender and number, and tells
// when `expected` have come.
class Receiver final : public Connection::Handler {
 public:
  Receiver(size_t senders, uint32_t expected) : next_(senders), expected_(expected) {}

  void OnFrame(const Frame& frame) override {
    const size_t sender = LoadLittleEndian<uint32_t>(frame.body.data());
    const uint32_t number = LoadLittleEndian<uint32_t>(frame.body.data() + 4);
    ASSERT_LT(sender, next_.size());
    EXPECT_EQ(next_[sender]++, number);
    const std::string filling(frame.body.substr(8));
    EXPECT_EQ(filling, std::string(filling.size(), static_cast<char>(number)));
    if (++received_ == expected_) all_received.Notify();
  }
  void OnEndOfInput() override {}
  void OnMalformedInput(const absl::Status& why, bool) override {
    // A peer that is closed may leave the beginning of a frame.
    EXPECT_THAT(std::string(why.message()), StartsWith("connection ended inside a frame"));
  }
  void OnClosed(const absl::Status&) override { closed.Notify(); }

  absl::Notification all_received;
  absl::Notification closed;

 private:
  std::vector<uint32_t> next_;
  uint32_t received_ = 0;
  const uint32_t expected_;
};

bool SendNumbered(Connection& connection, uint32_t sender, uint32_t number, size_t filling) {
  return connection.Send([&](Connection::Output& output) {
    const size_t size = 8 + filling;
    char* out = output.Append(kFrameHeaderSize + size);
    EncodeFrameHeader({.length = static_cast<uint32_t>(size), .type = FrameType::kMessage}, out);
    StoreLittleEndian<uint32_t>(sender, out + kFrameHeaderSize);
    StoreLittleEndian<uint32_t>(number, out + kFrameHeaderSize + 4);
    std::fill_n(out + kFrameHeaderSize + 8, filling, static_cast<char>(number));
  });
}

// Two connections joined by memory, each on a loop of its own.
class ConnectionThreadsTest : public testing::Test {
 protected:
  static constexpr uint32_t kSenders = 4;
  static constexpr uint32_t kFrames = 500;

  void SetUp() override {
    absl::StatusOr<std::unique_ptr<LoopGroup>> loops = LoopGroup::Create({.threads = 2});
    ASSERT_TRUE(loops.ok()) << loops.status();
    loops_ = *std::move(loops);
    // Small, so that writes are short and wait.
    MemoryStreamPair pair = MemoryStreamPair::Create(1000);
    left_ = Connection::Create({}, loops_->loop(0), left_handler_, std::move(pair.first));
    right_ = Connection::Create({}, loops_->loop(1), right_handler_, std::move(pair.second));
    for (Connection* connection : {left_.get(), right_.get()}) {
      absl::Notification started;
      connection->loop().Post([&] {
        connection->Start();
        started.Notify();
      });
      started.WaitForNotification();
    }
  }

  void Close(Connection& connection) {
    connection.loop().Post([&connection] { connection.Close(absl::OkStatus()); });
  }

  // Runs `send` on a thread for each sender.
  void RunSenders(const std::function<void(uint32_t sender)>& send) {
    std::vector<std::thread> threads;
    for (uint32_t sender = 0; sender < kSenders; ++sender) threads.emplace_back(send, sender);
    for (std::thread& thread : threads) thread.join();
  }

  Receiver left_handler_{kSenders, kSenders* kFrames};
  Receiver right_handler_{kSenders, kSenders* kFrames};
  std::unique_ptr<LoopGroup> loops_;
  std::shared_ptr<Connection> left_;
  std::shared_ptr<Connection> right_;
};

TEST_F(ConnectionThreadsTest, FramesOfManyThreadsArriveWholeAndInTheirThreadsOrder) {
  test::Random random;
  const uint32_t seed = static_cast<uint32_t>(random.Number(0, 0xffffffff));
  RunSenders([&](uint32_t sender) {
    std::mt19937 sizes(seed + sender);
    for (uint32_t i = 0; i < kFrames; ++i) {
      EXPECT_TRUE(SendNumbered(*left_, sender, i, sizes() % 300));
      EXPECT_TRUE(SendNumbered(*right_, sender, i, sizes() % 300));
    }
  });
  left_handler_.all_received.WaitForNotification();
  right_handler_.all_received.WaitForNotification();
  Close(*left_);
  Close(*right_);
  left_handler_.closed.WaitForNotification();
  right_handler_.closed.WaitForNotification();
}

TEST_F(ConnectionThreadsTest, IsClosedUnderThreadsThatSend) {
  std::atomic<uint32_t> sent{0};
  RunSenders([&](uint32_t sender) {
    for (uint32_t i = 0; SendNumbered(*left_, sender, i, i % 300); ++i) {
      if (sent.fetch_add(1) == 200) Close(*left_);
    }
  });
  left_handler_.closed.WaitForNotification();
  EXPECT_FALSE(SendNumbered(*left_, 0, 0, 0));
  Close(*right_);
  right_handler_.closed.WaitForNotification();
}

}  // namespace
}  // namespace ferry::transport
