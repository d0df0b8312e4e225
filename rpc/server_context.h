// What a handler knows of its call beside the request.
#ifndef FERRY_RPC_SERVER_CONTEXT_H_
#define FERRY_RPC_SERVER_CONTEXT_H_

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/work_count.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ServerContext is the server's side of one call's surroundings: who calls, until when, and the metadata
// both ways.
//
// It is the CallScope of the calls that its handler makes: they end with this one.
//
// Belongs to the handler from the start of the call until it ends; cancelled(), the stop token and the times
// are Thread-safe. Valid until the call has ended.
class ServerContext final : public CallScope {
 public:
  // A DeadlineWatcher has calls cancelled whose deadlines pass: a server session.
  class DeadlineWatcher {
   public:
    virtual ~DeadlineWatcher() = default;
    // Soon after `due` cancels the calls in flight that have expired and that somebody wants to be told of.
    // Thread-safe.
    virtual void WatchDeadline(transport::Instant due) = 0;
  };

  // Where a call is: the same for all of a connection.
  struct Place {
    const std::string* peer;
    transport::EventLoop* loop;
    Executor* executor;
    // Of the server's handlers that are coroutines.
    std::shared_ptr<WorkCount> coroutines;
    // Null if there is none.
    DeadlineWatcher* deadlines = nullptr;
  };

  // The caller's address: "127.0.0.1:41234", "[::1]:41234", "unix:" or "in-process".
  const std::string& peer() const { return *place_->peer; }

  // What is left of the time the client gives the call; infinite if it set no limit, never negative.
  absl::Duration time_left() const override;

  // When the call expires, on this machine's wall clock; infinite if it never does.
  absl::Time deadline() const;

  // Whether nobody waits for the answer any more: the client has cancelled or gone, or the deadline has
  // passed. Once true it stays true.
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire) || expired(); }

  // Is stopped when the client cancels the call or goes away, some 10 ms at most after the deadline has
  // passed, and when the call ends. Its callbacks run on the connection's event loop, or where the call is
  // finished, and must be quick. Calls that were started with it are cancelled. Thread-safe until the call
  // has ended; the token may be kept for longer.
  std::stop_token stop_token() override ABSL_LOCKS_EXCLUDED(cancel_mutex_);

  // The event loop of the call's connection, and the server's executor.
  transport::EventLoop& loop() const override { return *place_->loop; }
  Executor* executor() const override { return place_->executor; }

  // Runs `task` once when the client cancels the call or goes away, or some 10 ms at most after the deadline
  // has passed: on the connection's event loop, where it must be quick; or at once, on this thread, if that
  // has happened. `task` is destroyed without being run when the call ends, but may just then be running. A
  // further task replaces the one before. Thread-safe until the call has ended.
  void OnCancel(absl::AnyInvocable<void()> task) ABSL_LOCKS_EXCLUDED(cancel_mutex_);

  // Which attempt at the call this is: 1 if it is the first; more if the client has sent it before, or has
  // tried to, to this server or to another, or has sent it to several at once. 1,000 stands for all beyond.
  int attempt() const { return attempt_; }

  // What the client sent with its request.
  const Metadata& request_metadata() const { return request_metadata_; }

  // Sent before the reply, and with the call's end, whatever its status. Together with the status they may
  // not exceed the client's limit (16 KiB unless it says otherwise); beyond it the call ends with
  // RESOURCE_EXHAUSTED.
  Metadata& initial_metadata() { return initial_metadata_; }
  Metadata& trailing_metadata() { return trailing_metadata_; }

  // Asks the client, if the call does not end with OK, to wait for this long before it sends the call again,
  // if it does at all (PROTOCOL.md section 7): for a server that has too much to do. Zero or more; in
  // milliseconds, rounded down. Default: nothing is asked.
  void set_retry_after(absl::Duration wait) { retry_after_ = std::max(wait, absl::ZeroDuration()); }

  // For the session that runs the call: makes this the context of a new call, which has `timeout` from `now`
  // on. `place` must outlive it.
  void Begin(const Place& place, transport::Instant now, absl::Duration timeout) {
    Begin(place);
    timeout_ = timeout;
    deadline_ = now + timeout;
  }
  // The same, for a call without a limit.
  void Begin(const Place& place) {
    place_ = &place;
    timeout_ = absl::InfiniteDuration();
    deadline_ = transport::Instant::Infinite();
    cancelled_.store(false, std::memory_order_relaxed);
    attempt_ = 1;
    if (retry_after_.has_value()) retry_after_ = std::nullopt;
    if (!request_metadata_.empty()) request_metadata_.Clear();
    if (!initial_metadata_.empty()) initial_metadata_.Clear();
    if (!trailing_metadata_.empty()) trailing_metadata_.Clear();
  }
  void set_attempt(int attempt) { attempt_ = attempt; }
  const std::optional<absl::Duration>& retry_after() const { return retry_after_; }
  // For who runs a handler that is a coroutine, which is counted there: says so, until the coroutine has
  // ended, just before its call.
  const std::shared_ptr<WorkCount>& BeginCoroutine() {
    coroutine_ = true;
    return place_->coroutines;
  }
  void EndCoroutine() { coroutine_ = false; }
  const WorkCount* counted_in() const override { return coroutine_ ? place_->coroutines.get() : nullptr; }
  // What the client has given the call; infinite if it set no limit.
  absl::Duration timeout() const { return timeout_; }
  Metadata& mutable_request_metadata() { return request_metadata_; }
  bool has_reply_metadata() const { return !initial_metadata_.empty() || !trailing_metadata_.empty(); }
  // Whether the deadline has passed.
  bool expired() const {
    return deadline_ != transport::Instant::Infinite() && loop().clock().Now() >= deadline_;
  }
  // From now on the call is cancelled when its deadline passes, whether the client says so or not, as long as
  // somebody wants to be told. Thread-safe until the call has ended.
  void WatchDeadline() {
    if (deadline_ == transport::Instant::Infinite() || place_->deadlines == nullptr) return;
    place_->deadlines->WatchDeadline(deadline_);
  }
  // Whether the handler has asked to be told of the cancellation.
  bool has_on_cancel() const { return has_on_cancel_.load(std::memory_order_relaxed); }
  // When the deadline is.
  transport::Instant due() const { return deadline_; }
  // On the loop.
  void Cancel() ABSL_LOCKS_EXCLUDED(cancel_mutex_);
  // At the call's end.
  void ForgetOnCancel() {
    if (has_on_cancel()) DropOnCancel();
  }

 private:
  void DropOnCancel() ABSL_LOCKS_EXCLUDED(cancel_mutex_);

  const Place* place_ = nullptr;
  absl::Duration timeout_ = absl::InfiniteDuration();
  transport::Instant deadline_ = transport::Instant::Infinite();
  // Set by Cancel() on the connection's loop, read by the handler anywhere; it publishes nothing else.
  std::atomic<bool> cancelled_{false};
  int attempt_ = 1;
  bool coroutine_ = false;
  transport::Mutex cancel_mutex_;
  absl::AnyInvocable<void()> on_cancel_ ABSL_GUARDED_BY(cancel_mutex_);
  // Nothing until it is asked for.
  std::optional<std::stop_source> stop_source_ ABSL_GUARDED_BY(cancel_mutex_);
  // Whether one of the two was set in this call: for its end, which knows of what the handler did before, and
  // for the deadline, which the handler has watched only then.
  std::atomic<bool> has_on_cancel_{false};
  Metadata request_metadata_;
  Metadata initial_metadata_;
  Metadata trailing_metadata_;
  std::optional<absl::Duration> retry_after_;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_CONTEXT_H_
