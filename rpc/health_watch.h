// What a server says of its health, as a client follows it.
#ifndef FERRY_RPC_HEALTH_WATCH_H_
#define FERRY_RPC_HEALTH_WATCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/backoff.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/health_watch.pb.h"
#include "ferry/rpc/stream.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A HealthWatch holds a Watch call of the standard health service (health/health.proto) to one server, and
// tells whether that says that it serves.
//
//     unknown --SERVING, or UNIMPLEMENTED--> serving <--> not serving <-- any other status
//        '------------- kMaxFailures watches in a row without an answer ------^
//
// A watch that ends is started again after a random wait, as connections are. What was said last counts
// meanwhile, until so many in a row have failed: ended without an answer, or not answered in answer_time. One
// that ended with UNIMPLEMENTED is not started again: a server without a health service serves. One for which
// there was no room, on the connection or at the server, says nothing of the server's health.
//
// Belongs to the target's loop, but for its destruction when it is stopped. Owned by shared_ptr: by who
// started it, and for a moment by tasks on the loop.
class HealthWatch final : public std::enable_shared_from_this<HealthWatch> {
 public:
  enum class Health : uint8_t {
    kUnknown,     // it has not said yet
    kServing,     // it says so, or has no health service
    kNotServing,  // it says something else, or has failed to answer too often
  };

  struct Options {
    // As its server names it; empty for the server as a whole.
    std::string service;
    // For how long to wait for a watch's first answer.
    absl::Duration answer_time = absl::Seconds(10);
    // A watch is begun anew after this time, whatever it says: so that it leaves a connection which is to be
    // replaced.
    absl::Duration renew_after = absl::InfiniteDuration();
    // The bound of the waits, which doubles from the first value to the second.
    absl::Duration min_backoff = absl::Milliseconds(100);
    absl::Duration max_backoff = absl::Seconds(20);
    // Of the random waits; 0 takes one from the system.
    uint64_t seed = 0;
  };

  // So many watches in a row that failed without an answer count as NOT_SERVING.
  static constexpr int kMaxFailures = 3;
  // The longest name that servers accept, in bytes.
  static constexpr size_t kMaxNameBytes = 1024;
  // INVALID_ARGUMENT for a name that is longer.
  static absl::Status Check(const std::string& service);

  // `on_change` runs on the loop whenever health() has changed by what the server said or failed to say; it
  // may stop the watch.
  HealthWatch(const Options& options, std::shared_ptr<CallTarget> target, std::function<void()> on_change);
  HealthWatch(const HealthWatch&) = delete;
  HealthWatch& operator=(const HealthWatch&) = delete;

  // The server can be asked: its health is unknown until it answers. Does nothing if that has begun.
  void Start();
  // It is not to be asked any more: the call ends, and the health is unknown. REQUIRES, before the
  // destruction: called last.
  void Stop();

  Health health() const { return health_; }
  // What it said, or how the last watch failed, in words; for errors.
  const std::string& last_word() const { return last_word_; }

 private:
  void Ask();
  Stream::Waiter Tell(void (HealthWatch::*event)(uint64_t watch));
  void AwaitNews();
  void OnNews(uint64_t watch);
  void OnAnswer(wire::HealthAnswer::Status status);
  void AwaitEnd();
  void OnEnd(uint64_t watch);
  void OnTimer();
  void OnFailed(const absl::Status& why);
  void AskLater();
  void Set(Health health);

  const Options options_;
  const std::shared_ptr<CallTarget> target_;
  const std::function<void()> on_change_;
  wire::HealthQuestion question_;

  bool started_ = false;
  Health health_ = Health::kUnknown;
  std::string last_word_;
  // The watch under way; null between two, and after UNIMPLEMENTED. They are numbered: what a task on the
  // loop is about may be over.
  std::shared_ptr<ClientStreamCall> call_;
  uint64_t watch_ = 0;
  bool answered_ = false;
  transport::Instant asked_at_;
  // In a row, and without an answer.
  int failures_ = 0;
  // In a row, and none of them lasted for max_backoff.
  int restarts_ = 0;
  Backoff backoff_;
  // Until the first answer is due, or the next watch is, or this one is to be begun anew.
  transport::Timer timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_HEALTH_WATCH_H_
