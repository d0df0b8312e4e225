// What the tests of listeners stand on.
#ifndef FERRY_TESTS_TRANSPORT_LISTENER_FIXTURE_H_
#define FERRY_TESTS_TRANSPORT_LISTENER_FIXTURE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/listener.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "gtest/gtest.h"

namespace ferry::transport {

// An Echo sends back what it receives, in small amounts. Belongs to its loop.
class Echo final : private ByteStream::ReadyHandler {
 public:
  Echo(std::unique_ptr<ByteStream> stream, EventLoop& loop);

  EventLoop& loop() const { return loop_; }
  void Close() { stream_->Close(); }

 private:
  void OnReady(bool readable, bool writable) override;

  EventLoop& loop_;
  const std::unique_ptr<ByteStream> stream_;
};

// An EchoServer echoes on every stream that is accepted, and remembers on which loop each was.
//
// Thread-safe.
class EchoServer final : public Listener::Handler {
 public:
  void OnAccepted(std::unique_ptr<ByteStream> stream, EventLoop& loop) override;
  void OnProblem(const std::string& line) override;

  void WaitForAccepted(size_t count);
  void WaitForProblems(size_t count);

  size_t accepted();
  // How many streams were accepted on each of `loops`.
  std::vector<int> AcceptedByLoop(const LoopGroup& loops);
  std::vector<std::string> problems();

  // To be called when the listener is destroyed.
  void SetListenerGone();
  // Whether a stream came after that.
  bool late();

  void CloseAll();

 private:
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Echo>> echoes_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> problems_ ABSL_GUARDED_BY(mutex_);
  bool listener_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool late_ ABSL_GUARDED_BY(mutex_) = false;
};

SocketAddress Resolved(const std::string& address);

// A Client is a blocking socket.
//
// Thread-compatible.
class Client {
 public:
  explicit Client(const std::string& address);

  bool Connect();
  // Sends `bytes` and returns as many that come back.
  std::string Exchange(absl::string_view bytes);

 private:
  const SocketAddress address_;
  FileDescriptor socket_;
};

// A ListenerFixture has a server that echoes, the loops that it is given, and a path for a socket.
//
// Thread-compatible.
class ListenerFixture : public testing::Test {
 protected:
  ListenerFixture();
  ~ListenerFixture() override;

  void StartLoops(size_t threads, const Clock& clock = Clock::Real());

  absl::StatusOr<std::unique_ptr<Listener>> TryListen(const std::string& address,
                                                      const Listener::Options& options = {});
  void Listen(const std::string& address, const Listener::Options& options = {});
  // The code and the text of the error of a try to listen.
  void ExpectError(const std::string& address, const std::string& why);

  // Connects and is answered.
  std::unique_ptr<Client> Talk();

  // Waits until loop `i` has run a batch that began after this was called.
  void Fence(size_t i);

  std::string directory_;
  std::string path_;
  ManualClock clock_;
  std::shared_ptr<EchoServer> server_ = std::make_shared<EchoServer>();
  std::unique_ptr<LoopGroup> loops_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace ferry::transport

#endif  // FERRY_TESTS_TRANSPORT_LISTENER_FIXTURE_H_
