// A server's sessions on the test's own thread.
#ifndef FERRY_TESTS_TESTING_SESSION_SERVER_H_
#define FERRY_TESTS_TESTING_SESSION_SERVER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/inline_guard.h"
#include "ferry/rpc/server_session.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/memory_stream.h"
#include "gtest/gtest.h"
#include "tests/testing/echo_service.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/manual_executor.h"
#include "tests/testing/raw_peer.h"

namespace ferry::test {

// A SessionServer serves ScriptedEcho to raw peers: one loop, a clock and an executor that move when told.
//
// Thread-compatible.
class SessionServer {
 public:
  struct Options {
    WireSettings settings = {};
    InlineGuard::Options inline_guard = {};
    bool echo_inline = false;
    size_t executor_capacity = 1000;
    size_t max_request_bytes = 1024 * 1024 * 1024;
    size_t max_request_bytes_per_connection = 128 * 1024 * 1024;
    // How many bytes one read, or one write, of a session moves at most.
    size_t slice = static_cast<size_t>(-1);
  };

  explicit SessionServer(const Options& options) : options_(options), executor_(options.executor_capacity) {
    absl::StatusOr<std::unique_ptr<transport::EventLoop>> loop =
        transport::EventLoop::Create({.clock = &clock_});
    EXPECT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    shared_ = std::make_shared<Sessions>(options);
    shared_->executor = &executor_;
    EXPECT_TRUE(shared_->methods.Add(service_).ok());
    EXPECT_TRUE(shared_->methods.SetInline("ferry.test.Echo/Echo", options.echo_inline).ok());
    shared_->methods.PrepareFor(1);
  }
  SessionServer() : SessionServer(Options{}) {}
  ~SessionServer() {
    service_.held.clear();
    service_.chats.clear();
    InLoop([this] {
      while (!shared_->open.empty()) shared_->open.front()->Close(absl::CancelledError("the test ends"));
    });
    Settle();
  }

  // A new connection, over which the peer has sent `bytes` and which drains before it has read anything.
  std::unique_ptr<RawPeer> ConnectAndDrain(const std::string& bytes) {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    auto peer = std::make_unique<RawPeer>(std::move(pair.second), [this] { Settle(); });
    peer->Send(bytes);
    std::unique_ptr<transport::ByteStream> stream = std::make_unique<FaultyStream>(
        std::move(pair.first), FaultyStream::Faults{.max_read = options_.slice, .max_write = options_.slice});
    auto session = std::make_shared<ServerSession>(shared_, *loop_, 0, std::move(stream));
    shared_->open.push_back(session);
    InLoop([&] {
      session->Begin();
      session->Drain();
    });
    return peer;
  }

  // A new connection, to which the peer has said nothing yet.
  std::unique_ptr<RawPeer> Connect() {
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    std::unique_ptr<transport::ByteStream> stream = std::make_unique<FaultyStream>(
        std::move(pair.first), FaultyStream::Faults{.max_read = options_.slice, .max_write = options_.slice});
    auto session = std::make_shared<ServerSession>(shared_, *loop_, 0, std::move(stream));
    shared_->open.push_back(session);
    InLoop([&] { session->Begin(); });
    return std::make_unique<RawPeer>(std::move(pair.second), [this] { Settle(); });
  }

  // A new connection on which prefaces and SETTINGS were exchanged.
  std::unique_ptr<RawPeer> ConnectAndGreet(const WireSettings& client = {}) {
    std::unique_ptr<RawPeer> peer = Connect();
    peer->Send(Preface() + EncodeSettingsFrame(client));
    EXPECT_TRUE(peer->TakePreface());
    const std::optional<ReceivedFrame> settings = peer->TakeFrame();
    EXPECT_TRUE(settings.has_value() && settings->header.type == transport::FrameType::kSettings);
    return peer;
  }

  // The sessions do all that they can do now; so does the executor, unless it is held.
  void Settle() {
    do {
      loop_->RunUntilIdle();
      if (hold_executor || executor_.waiting() == 0) return;
      executor_.RunAll();
    } while (true);
  }

  void Advance(absl::Duration by) {
    clock_.Advance(by);
    Settle();
  }

  // Runs `task` on the loop.
  void InLoop(std::function<void()> task) {
    loop_->Post(std::move(task));
    loop_->RunUntilIdle();
  }

  ServerSession& session() { return *shared_->open.front(); }
  size_t open_sessions() const { return shared_->open.size(); }
  ServerSession::Shared& shared() { return *shared_; }
  ScriptedEcho& service() { return service_; }
  ManualExecutor& executor() { return executor_; }
  transport::ManualClock& clock() { return clock_; }
  transport::EventLoop& loop() { return *loop_; }
  const std::vector<std::string>& log() const { return Log(); }

  // The executor's tasks wait for the test.
  bool hold_executor = false;

 private:
  static std::vector<std::string>& Log() {
    static thread_local std::vector<std::string> lines;
    return lines;
  }

  class Sessions final : public ServerSession::Shared {
   public:
    explicit Sessions(const Options& options) : Shared(options.inline_guard, options.max_request_bytes) {
      settings = options.settings;
      connection.limits = settings.frame_limits();
      connection.wait_for_preface = true;
      max_request_bytes_per_connection = options.max_request_bytes_per_connection;
      Log().clear();
      log = [](std::string_view line) { Log().emplace_back(line); };
    }
    void OnSessionEnded(ServerSession& session) override {
      session.loop().Post([ended = session.shared_from_this()] {});
      std::erase_if(open, [&](const auto& one) { return one.get() == &session; });
    }
    std::vector<std::shared_ptr<ServerSession>> open;
  };

  const Options options_;
  transport::ManualClock clock_;
  ManualExecutor executor_;
  ScriptedEcho service_;
  std::unique_ptr<transport::EventLoop> loop_;
  std::shared_ptr<Sessions> shared_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_SESSION_SERVER_H_
