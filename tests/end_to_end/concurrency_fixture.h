// What the tests of many calls at once stand on.
#ifndef FERRY_TESTS_END_TO_END_CONCURRENCY_FIXTURE_H_
#define FERRY_TESTS_END_TO_END_CONCURRENCY_FIXTURE_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/check.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {

// Mostly small, some of several frames.
inline size_t SizeOf(uint64_t id) { return id % 100 == 99 ? 150'000 : id % 10 == 9 ? 5'000 : id % 64; }

inline bool Matches(const Message& request, const absl::StatusOr<Message>& reply) {
  return reply.ok() && reply->id() == request.id() && reply->payload() == request.payload();
}

// A Tally counts the ways in which calls end.
//
// Thread-safe.
struct Tally {
  std::atomic<uint64_t> right{0};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> failed{0};
  uint64_t all() const { return right + wrong + failed; }
};

// Waits for a notification. Dies if it does not come: somebody holds a reference to what the caller would
// destroy.
inline void Await(absl::Notification& notification) {
  FERRY_CHECK(notification.WaitForNotificationWithTimeout(kLongTime), "what was waited for did not happen");
}

// Chains keep a number of calls in flight, each starting the next inside its callback.
//
// Thread-safe.
class Chains {
 public:
  // `calls` in all over `stub`, `count` at a time.
  Chains(ConformanceStub& stub, uint64_t calls, uint64_t count) : stub_(stub), calls_(calls), ended_(calls) {
    running_ = count;
  }

  void Start() {
    for (uint64_t i = running_; i > 0; --i) Next();
  }
  // Waits until every call has ended.
  void Wait() { Await(done_); }

  const Tally& tally() const { return tally_; }
  // How often the call that ended most or least often did.
  uint64_t most_ends() const { return *std::max_element(ended_.begin(), ended_.end()); }
  uint64_t least_ends() const { return *std::min_element(ended_.begin(), ended_.end()); }

 private:
  void Next() {
    const uint64_t id = next_.fetch_add(1);
    if (id >= calls_) {
      if (running_.fetch_sub(1) == 1) done_.Notify();
      return;
    }
    const StubMethod& method = kEchoes[id % 3];
    (stub_.*method.callback_fresh)(
        MessageOf(id, SizeOf(id)), {}, [this, id](const absl::StatusOr<Message>& reply) {
          ++ended_[id];
          if (!reply.ok()) {
            ++tally_.failed;
          } else {
            ++(Matches(MessageOf(id, SizeOf(id)), reply) ? tally_.right : tally_.wrong);
          }
          Next();
        });
  }

  ConformanceStub& stub_;
  const uint64_t calls_;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> running_;
  std::vector<std::atomic<uint64_t>> ended_;
  Tally tally_;
  absl::Notification done_;
};

// A ConcurrencyTest has calls go over the transport that its parameter names.
class ConcurrencyTest : public testing::TestWithParam<const char*> {};

inline constexpr const char* kTransports[] = {"127.0.0.1:0", "unix", "in-process"};

inline std::string NameOfTransport(const testing::TestParamInfo<const char*>& info) {
  const std::string name = info.param;
  return name == "unix" ? "Unix" : name == "in-process" ? "InProcess" : "Tcp";
}

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_CONCURRENCY_FIXTURE_H_
