// A connector that succeeds and fails as the test says.
#ifndef FERRY_TESTS_TESTING_SCRIPTED_CONNECTOR_H_
#define FERRY_TESTS_TESTING_SCRIPTED_CONNECTOR_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/memory_stream.h"

namespace ferry::test {

// A ScriptedConnector fails a given number of times, then connects to memory. The test keeps a Script to look
// at, which outlives the connector.
//
// Thread-compatible: belongs to its loop.
class ScriptedConnector final : public transport::Connector {
 public:
  struct Script {
    // How many attempts fail from now on, and how.
    int failures = 0;
    absl::Status failure = absl::UnavailableError("nobody listens there");
    // Attempts neither fail nor succeed.
    bool hang = false;
    // When each attempt began.
    std::vector<transport::Instant> attempts;
    // The far ends of what was connected.
    std::vector<std::unique_ptr<transport::ByteStream>> far_ends;
    // Puts something around the near end.
    std::function<std::unique_ptr<transport::ByteStream>(std::unique_ptr<transport::ByteStream>)> wrap;
  };

  explicit ScriptedConnector(Script& script) : script_(script) {}

  std::unique_ptr<Attempt> Connect(transport::EventLoop& loop, transport::Instant, Callback done) override {
    script_.attempts.push_back(loop.clock().Now());
    auto attempt = std::make_unique<ScriptedAttempt>();
    if (script_.hang) return attempt;
    loop.Post([this, alive = std::weak_ptr<bool>(attempt->alive), done = std::move(done)]() mutable {
      if (!alive.expired()) std::move(done)(Result());
    });
    return attempt;
  }

 private:
  struct ScriptedAttempt final : Attempt {
    std::shared_ptr<bool> alive = std::make_shared<bool>();
  };

  absl::StatusOr<std::unique_ptr<transport::ByteStream>> Result() {
    if (script_.failures > 0) {
      --script_.failures;
      return script_.failure;
    }
    transport::MemoryStreamPair pair = transport::MemoryStreamPair::Create();
    script_.far_ends.push_back(std::move(pair.second));
    if (script_.wrap) return script_.wrap(std::move(pair.first));
    return std::move(pair.first);
  }

  Script& script_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_SCRIPTED_CONNECTOR_H_
