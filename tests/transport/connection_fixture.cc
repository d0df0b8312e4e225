#include "tests/transport/connection_fixture.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/memory_stream.h"
#include "ferry/transport/preface.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"

namespace ferry::transport {

std::string Preface() {
  std::string bytes(kPrefaceSize, '\0');
  EncodePreface(bytes.data());
  return bytes;
}

std::string MessageFrame(absl::string_view body, FrameType type) {
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

void Recorder::OnFrame(const Frame& frame) {
  events.push_back(absl::StrCat("frame ", frame.message()));
  if (on_frame) on_frame(frame);
}

void Recorder::OnEndOfInput() {
  events.push_back("end of input");
  if (on_end_of_input) on_end_of_input();
}

void Recorder::OnMalformedInput(const absl::Status& why, bool tell_peer) {
  events.push_back(absl::StrCat("malformed ", why.ToString(), tell_peer ? ", to be told" : ""));
  if (tell_peer) SendMessage(*connection, "last words");
  connection->CloseAfterFlush(why);
}

void Recorder::OnClosed(const absl::Status& why) {
  events.push_back(absl::StrCat("closed ", why.ToString()));
  if (on_closed) on_closed();
}

absl::Status InterruptedStream::Watch(EventLoop& loop, ReadyHandler& handler) {
  handler_ = &handler;
  return stream_->Watch(loop, handler);
}

IoResult InterruptedStream::Write(absl::Span<const iovec> parts) {
  EXPECT_FALSE(writing_) << "two writes at once";
  writing_ = true;
  IoResult result = stream_->Write(parts);
  if (on_write) std::exchange(on_write, nullptr)();
  writing_ = false;
  return result;
}

void InterruptedStream::FinishWriting() {
  EXPECT_FALSE(writing_) << "FinishWriting during a write";
  stream_->FinishWriting();
}

ConnectionFixture::ConnectionFixture(const test::FaultyStream::Faults& faults) : faults_(faults) {
  absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create({.clock = &clock_});
  EXPECT_TRUE(loop.ok()) << loop.status();
  loop_ = *std::move(loop);
}

ConnectionFixture::~ConnectionFixture() {
  if (connection_ == nullptr) return;
  OnLoop([this] { connection_->Close(absl::OkStatus()); });
  EXPECT_EQ(std::count_if(events().begin(), events().end(),
                          [](const std::string& e) { return e.starts_with("closed"); }),
            1)
      << "OnClosed is told once";
  EXPECT_THAT(events().back(), testing::StartsWith("closed"));
}

void ConnectionFixture::Start(const Connection::Options& options) {
  MemoryStreamPair pair = MemoryStreamPair::Create(capacity_);
  peer_ = std::move(pair.second);
  auto faulty = std::make_unique<test::FaultyStream>(std::move(pair.first), faults_);
  stream_ = faulty.get();
  auto interrupted = std::make_unique<InterruptedStream>(std::move(faulty));
  interrupted_ = interrupted.get();
  connection_ = Connection::Create(options, *loop_, recorder_, std::move(interrupted));
  recorder_.connection = connection_.get();
  OnLoop([this] { connection_->Start(); });
}

void ConnectionFixture::StartTalking(const Connection::Options& options) {
  Start(options);
  PeerWrites(Preface());
  EXPECT_EQ(PeerReads(), Preface());
  EXPECT_THAT(events(), testing::ElementsAre("preface"));
  recorder_.events.clear();
}

void ConnectionFixture::OnLoop(std::function<void()> task) {
  loop_->Post(std::move(task));
  loop_->RunUntilIdle();
}

void ConnectionFixture::Advance(absl::Duration time) {
  clock_.Advance(time);
  loop_->RunUntilIdle();
}

void ConnectionFixture::SetFaults(const test::FaultyStream::Faults& faults) {
  OnLoop([&] { stream_->SetFaults(faults); });
}

void ConnectionFixture::PeerWrites(std::string bytes) {
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

std::string ConnectionFixture::PeerReads(size_t most) {
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

void ConnectionFixture::PeerFinishesWriting() {
  peer_->FinishWriting();
  loop_->RunUntilIdle();
}

void ConnectionFixture::PeerCloses() {
  peer_->Close();
  loop_->RunUntilIdle();
}

std::vector<Cut> EveryCut() {
  return {{"Whole", {}},
          {"OneByteReads", {.max_read = 1}},
          {"OneByteWrites", {.max_write = 1}},
          {"OneByteBoth", {.max_read = 1, .max_write = 1}},
          {"SevenBytesBoth", {.max_read = 7, .max_write = 7}}};
}

std::string NameOfCut(const testing::TestParamInfo<Cut>& info) { return info.param.name; }

}  // namespace ferry::transport
