// Channels that know who reads their replies, and calls that the server holds.
#ifndef FERRY_TESTS_END_TO_END_WATCHED_CHANNEL_H_
#define FERRY_TESTS_END_TO_END_WATCHED_CHANNEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/address.h"
#include "ferry/transport/check.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/socket_options.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/counting_connector.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {

// A channel that knows on which thread its replies are read.
//
// Thread-safe.
class WatchedChannel {
 public:
  explicit WatchedChannel(const std::string& address, const ChannelOptions& options = {}) {
    const absl::StatusOr<transport::Address> parsed = transport::Address::Parse(address);
    FERRY_CHECK(parsed.ok(), "the server's address does not parse");
    auto resolved = transport::Resolve(*parsed);
    FERRY_CHECK(resolved.ok(), "the server's address cannot be found");
    channel_ = *Channel::CreateOver(
        std::make_unique<CountingConnector>(
            std::make_unique<transport::SocketConnector>(*std::move(resolved), transport::SocketOptions()),
            counters_),
        options);
    stub_ = std::make_unique<ConformanceStub>(*channel_);
  }

  ConformanceStub& stub() { return *stub_; }
  const StreamCounters& counters() const { return counters_; }

  // Whether the last bytes were read on this thread.
  bool ReadByThisThread() const { return counters_.reader.load() == std::this_thread::get_id(); }

  // Makes calls until this thread runs the loop during one, and will during the next unless it waits too
  // long.
  void BecomeGuest() {
    FERRY_CHECK(Eventually([this] {
                  FERRY_CHECK(stub_->EchoInline(Message()).ok(), "a call failed");
                  return ReadByThisThread();
                }),
                "a lone caller is never let in");
  }

  void Destroy() { channel_.reset(); }

 private:
  // Before what counts in it.
  StreamCounters counters_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConformanceStub> stub_;
};

// A lone caller's call, on a thread of its own, that the service holds.
class HeldLoneCall {
 public:
  HeldLoneCall(WatchedChannel& channel, TestConformance& service)
      : thread_([this, &channel] {
          channel.BecomeGuest();
          status_ = channel.stub().Hold(MessageOf(kId, 0)).status();
        }) {
    // There may be others, of channels that are gone.
    do {
      held_.emplace(service.TakeHeld());
    } while (held_->request().id() != kId);
  }

  // Waits for the call's end; how it was. Not copied: libabsl counts references where ThreadSanitizer does
  // not see it.
  const absl::Status& Wait() {
    thread_.join();
    return status_;
  }

  std::thread::id thread() const { return thread_.get_id(); }

  // Answers the call.
  void Finish() { std::move(*held_).Finish(absl::OkStatus()); }

 private:
  static constexpr uint64_t kId = 4711;

  absl::Status status_;
  std::optional<HeldCall> held_;
  std::thread thread_;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_WATCHED_CHANNEL_H_
