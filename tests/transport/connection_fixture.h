// What the tests of connections stand on.
#ifndef FERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_
#define FERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/memory_stream.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"

namespace ferry::transport {

std::string Preface();

std::string MessageFrame(absl::string_view body, FrameType type = FrameType::kMessage);

bool SendBytes(Connection& connection, absl::string_view bytes);
bool SendMessage(Connection& connection, absl::string_view body);

// A Recorder writes down what a connection tells it, and answers malformed input as a session does.
//
// Belongs to the connection's loop.
class Recorder final : public Connection::Handler {
 public:
  void OnFrame(const Frame& frame) override;
  void OnEndOfRead() override { ++reads; }
  void OnEndOfInput() override;
  void OnPreface() override { events.push_back("preface"); }
  void OnMalformedInput(const absl::Status& why, bool tell_peer) override;
  void OnClosed(const absl::Status& why) override;

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

  absl::Status Watch(EventLoop& loop, ReadyHandler& handler) override;
  // Of whom watches this.
  bool pollable() const { return handler_->pollable(); }
  IoResult Read(absl::Span<const iovec> parts) override { return stream_->Read(parts); }
  IoResult Write(absl::Span<const iovec> parts) override;
  void FinishWriting() override;
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
//
// Thread-compatible.
class ConnectionFixture : public testing::Test {
 protected:
  explicit ConnectionFixture(const test::FaultyStream::Faults& faults = {});
  ~ConnectionFixture() override;

  void Start(const Connection::Options& options);
  // Starts, and exchanges prefaces.
  void StartTalking(const Connection::Options& options = {});

  void OnLoop(std::function<void()> task);
  void Advance(absl::Duration time);
  void SetFaults(const test::FaultyStream::Faults& faults);

  // All of `bytes` at once.
  void PeerWrites(std::string bytes);
  // What has come up to now, at most `most` bytes.
  std::string PeerReads(size_t most = 100'000'000);
  bool PeerSeesEnd() { return PeerReads().empty() && peer_saw_end_; }
  void PeerFinishesWriting();
  void PeerCloses();

  const std::vector<std::string>& events() const { return recorder_.events; }
  uint64_t writes() const { return connection_->counters().writes.load(); }

  const test::FaultyStream::Faults faults_;
  size_t capacity_ = MemoryStreamPair::kDefaultCapacity;
  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_;
  Recorder recorder_;
  std::unique_ptr<ByteStream> peer_;
  bool peer_saw_end_ = false;
  test::FaultyStream* stream_ = nullptr;
  InterruptedStream* interrupted_ = nullptr;
  std::shared_ptr<Connection> connection_;
};

// How the stream cuts what goes through it, which must make no difference.
struct Cut {
  const char* name;
  test::FaultyStream::Faults faults;

  friend void PrintTo(const Cut& cut, std::ostream* out) { *out << cut.name; }
};
std::vector<Cut> EveryCut();
std::string NameOfCut(const testing::TestParamInfo<Cut>& info);

// A ConnectionTest has a connection whose stream is cut as its parameter says.
//
// Thread-compatible.
class ConnectionTest : public ConnectionFixture, public testing::WithParamInterface<Cut> {
 protected:
  ConnectionTest() : ConnectionFixture(GetParam().faults) {}
};

}  // namespace ferry::transport

#endif  // FERRY_TESTS_TRANSPORT_CONNECTION_FIXTURE_H_
