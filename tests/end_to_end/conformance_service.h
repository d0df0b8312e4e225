// The handlers that the tests of whole calls talk to.
#ifndef FERRY_TESTS_END_TO_END_CONFORMANCE_SERVICE_H_
#define FERRY_TESTS_END_TO_END_CONFORMANCE_SERVICE_H_

#include <cstddef>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"
#include "ferry/transport/loop_group.h"
#include "tests/end_to_end/conformance.ferry.h"

namespace ferry::test::e2e {

// A handler's hold on a call.
using HeldCall = UnaryCall<Message, Message>;

// A TestConformance does what conformance.proto says.
//
// Thread-safe.
class TestConformance final : public ConformanceService {
 public:
  TestConformance();

  absl::Status EchoInline(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status EchoExecutor(ServerContext& context, const Message& request, Message& reply) override;
  void StartEchoLater(HeldCall call) override;
  absl::Status FailInline(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status FailExecutor(ServerContext& context, const Message& request, Message& reply) override;
  void StartFailLater(HeldCall call) override;
  absl::Status EchoMetadata(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status Describe(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status DescribeWithTimeout(ServerContext& context, const Message& request, Message& reply) override;
  void StartHold(HeldCall call) override;
  void StartHoldBriefly(HeldCall call) override;
  absl::Status Block(ServerContext& context, const Message& request, Message& reply) override;
  absl::Status WaitUntilCancelled(ServerContext& context, const Message& request, Message& reply) override;

  // How many calls are held.
  size_t held() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits for a call that is held, and takes it: the oldest. Dies if none comes.
  HeldCall TakeHeld() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until `count` calls are held; whether they came.
  bool WaitForHeld(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until `count` handlers of Block, or of WaitUntilCancelled, are running or have run; whether they
  // came.
  bool WaitForBlocked(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitForWaiting(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many handlers of Block are running or have run.
  size_t ever_blocked() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until `count` handlers of WaitUntilCancelled have seen that they are cancelled.
  bool WaitForCancelled(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);

  // Lets handlers of Block go, now and from now on.
  void Unblock() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool WaitUntilReached(const size_t& counter, size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishLater(HeldCall call, absl::Status status);
  void Keep(HeldCall call) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<HeldCall> held_ ABSL_GUARDED_BY(mutex_);
  size_t ever_blocked_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ever_waited_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ever_cancelled_ ABSL_GUARDED_BY(mutex_) = 0;
  bool unblocked_ ABSL_GUARDED_BY(mutex_) = false;

  // Where EchoLater and FailLater finish.
  const std::unique_ptr<transport::LoopGroup> later_;
};

// The service beside it.
class TestOther final : public OtherService {
 public:
  absl::Status Echo(ServerContext& context, const Message& request, Message& reply) override;
};

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_CONFORMANCE_SERVICE_H_
